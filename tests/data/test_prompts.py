"""Default prompts; expected values are those of NOVA's README and its rules for other labels."""

import pytest

from radlearn.data.prompts import default_prompts


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("Atelectasis", ("atelectasis", "no atelectasis")),
        ("Pleural Effusion", ("pleural effusion", "no pleural effusion")),
        ("Pleural_Thickening", ("pleural thickening", "no pleural thickening")),
        ("Effusion", ("pleural effusion", "no pleural effusion")),
        ("No Finding", ("no acute cardiopulmonary abnormality", "abnormal chest radiograph")),
        ("No_Finding", ("no acute cardiopulmonary abnormality", "abnormal chest radiograph")),
    ],
)
def test_default_prompts(label, expected):
    assert default_prompts(label) == expected

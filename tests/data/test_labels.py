"""Label cells and their policies."""

import polars as pl
import pytest

from radlearn.data.labels import apply_policy, parse_labels
from radlearn.errors import ConfigurationError, DataError


def test_strings_keep_zero_blank_and_uncertain_apart():
    cells = pl.Series("Edema", ["1", "1.0", " 0 ", "0.0", "-1", "-1.0", "", None, "NaN", "True", "false"])
    assert parse_labels(cells, "a.csv").to_list() == [1, 1, 0, 0, -1, -1, None, None, None, 1, 0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 0, -1, None], [1, 0, -1, None]),
        ([1.0, float("nan"), None, 0.0], [1, None, None, 0]),
        ([True, False, None], [1, 0, None]),
        ([None, None], [None, None]),
    ],
)
def test_typed_columns_read_alike(values, expected):
    labels = parse_labels(pl.Series("Edema", values), "a.parquet")
    assert labels.to_list() == expected
    assert labels.dtype == pl.Float32


@pytest.mark.parametrize("value", ["2", "yes", "0.5", "inf", "1,0"])
def test_any_other_value_is_named_with_its_column_and_row(value):
    with pytest.raises(DataError, match=rf"a\.csv: label column 'Edema' holds '{value}' in row 3"):
        parse_labels(pl.Series("Edema", ["1", "", value]), "a.csv")
    if value == "2":
        with pytest.raises(DataError, match="row 2"):
            parse_labels(pl.Series("Edema", [1, 2]), "a.parquet")


@pytest.mark.parametrize(
    ("uncertain", "blank", "expected"),
    [
        ("zeros", "zeros", [1, 0, 0, 0]),
        ("ones", "zeros", [1, 0, 1, 0]),
        ("ignore", "zeros", [1, 0, None, 0]),
        ("ignore", "ignore", [1, 0, None, None]),
        ("zeros", "ignore", [1, 0, 0, None]),
        ("soft", "zeros", [1, 0, 0.5, 0]),
        ("keep", "ignore", [1, 0, -1, None]),
    ],
)
def test_policies_map_uncertain_and_blank_each_on_its_own(uncertain, blank, expected):
    labels = pl.Series("Edema", [1, 0, -1, None], dtype=pl.Float32)
    assert apply_policy(labels, uncertain=uncertain, blank=blank).to_list() == expected


def test_unknown_policies_name_the_nearest():
    labels = pl.Series("Edema", [1.0], dtype=pl.Float32)
    with pytest.raises(ConfigurationError, match="did you mean 'zeros'"):
        apply_policy(labels, uncertain="zero")
    with pytest.raises(ConfigurationError, match="blank"):
        apply_policy(labels, blank="ones")

"""Default zero-shot prompts of a label, where a configuration or a manifest names none."""

from __future__ import annotations

# ChestX-ray14 shortens it; a bare "effusion" may be of the heart or of a joint.
_FULL_NAMES = {"effusion": "pleural effusion"}
_NO_FINDING = "no finding"


def default_prompts(label: str) -> tuple[str, str]:
    """Positive and negative prompt: the label's words, and "no " before them.

    "No Finding" is asked for as a normal study against an abnormal one, and belongs in no macro mean.
    """
    words = " ".join(label.lower().replace("_", " ").split())
    if words == _NO_FINDING:
        return "no acute cardiopulmonary abnormality", "abnormal chest radiograph"
    words = _FULL_NAMES.get(words, words)
    return words, f"no {words}"

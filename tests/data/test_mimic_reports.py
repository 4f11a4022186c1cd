"""The public MIMIC-CXR rules: golden reports by the published description, the 54 studies, the caption."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radlearn.data.mimic_reports import (
    COLUMNS,
    IRREGULAR_STUDIES,
    canonical_name,
    caption,
    override,
    sectioned,
    sections,
    study_number,
)
from radlearn.data.reports import Section
from radlearn.errors import ConfigurationError

REPORT = (
    "                                 FINAL REPORT\n EXAMINATION:  CHEST (PA AND LAT)\n \n"
    " INDICATION:  ___F with cough  // pneumonia?\n \n FINDINGS: \n \n The lungs are clear.\n \n"
    " IMPRESSION: \n \n No acute process.\n"
)


def names_and_texts(report, **settings):
    return [(section.name, section.text.strip()) for section in sections(report, **settings)]


def test_a_report_of_the_release():
    assert names_and_texts(REPORT) == [
        ("preamble", "FINAL REPORT"),
        ("examination", "CHEST (PA AND LAT)"),
        ("indication", "___F with cough  // pneumonia?"),
        ("findings", "The lungs are clear."),
        ("impression", "No acute process."),
    ]


def test_a_section_keeps_its_text_unchanged_from_behind_the_one_white_space():
    assert sections("x\n FINDINGS:  a\n  b\n IMPRESSION: c\n") == [
        Section("preamble", "x"),
        Section("findings", " a\n  b"),
        Section("impression", "c\n"),
    ]


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        # A header needs newline, one space, capitals, colon, white space.
        ("\nIMPRESSION: x", [("full report", "IMPRESSION: x")]),
        ("\n  IMPRESSION: x", [("preamble", ""), ("impression", "x")]),  # spaces are of the run
        ("\n Impression: x", [("full report", "Impression: x")]),
        ("\n IMPRESSION:x", [("full report", "IMPRESSION:x")]),
        ("\n IMPRESSION 2: x", [("full report", "IMPRESSION 2: x")]),
        (" IMPRESSION: x", [("full report", "IMPRESSION: x")]),
        ("", [("full report", "")]),
        # After a header the search goes on at the first newline: the second header on a line is text.
        ("\n HISTORY: a FINDINGS: b\n IMPRESSION: c",
         [("preamble", ""), ("history", "a FINDINGS: b"), ("impression", "c")]),
        # The white space after the colon may be the newline that the next header would have begun with.
        ("\n FINDINGS:\n IMPRESSION: c", [("preamble", ""), ("findings", "IMPRESSION: c")]),
        # Empty findings and impressions go, other empty sections stay.
        ("\n TECHNIQUE: \n FINDINGS: \n IMPRESSION: c",
         [("preamble", ""), ("technique", ""), ("impression", "c")]),
        # Without both, what follows the first blank line of the last section is one section more.
        ("\n COMPARISON: none\n \n a\n \n b",
         [("preamble", ""), ("comparison", "none\n \n a\n \n b"), ("last_paragraph", "a\n \n b")]),
        ("top\n \n rest", [("full report", "top\n \n rest"), ("last_paragraph", "rest")]),
        ("\n COMPARISON: none\n\n a", [("preamble", ""), ("comparison", "none\n\n a")]),  # no space between
        ("\n FINDINGS: x\n \n y", [("preamble", ""), ("findings", "x\n \n y")]),
    ],
)  # fmt: skip
def test_sections_by_the_published_description(report, expected):
    assert names_and_texts(report) == expected


def test_the_names():
    """Rows of the table, names contained in a header in their order, then views, then the name itself."""
    rows = {
        "CONCLUSION": "impression", "FINDINGS/ IMPRESSION": "impression", "IMOPRESSION": "imopression",
        "IMORESSION": "impression", " IMPRSSION ": "impression", "MPRESSION": "impression",
        "FINIDNGS": "findings", "REFERENCE FINDINGS": "findings", "REFERENCE EXAM": "comparison",
        "COMPARRISON": "comparison", "PFI": "history", "IDICATION": "indication", "EXAM": "examination",
        "RECOMMENDATION(S)": "recommendations", "WETREAD": "wet read", "PREAMBLE": "preamble",
        "FINDINGS AND IMPRESSION AND HISTORY": "impression", "HISTORY OF FINDINGS": "findings",
        "COMPARISON WITH HISTORY": "history", "ADDENDUM TO COMPARISON": "comparison",
        "CHEST RADIOGRAPH": "findings", "AP AND LATERAL VIEWS": "findings", "RIBS, LEFT": "findings",
        "FRONTAL SEMI-UPRIGHT": "findings", "CHEST HISTORY": "history", "NOTE": "note",
        "PROCEDURE": "procedure",
    }  # fmt: skip
    assert {header: canonical_name(header) for header in rows} == rows


def test_the_slip_of_the_public_table_is_a_switch():
    assert canonical_name("NDICATION") == "indication"
    assert canonical_name("NDICATION", corrected=False) == "impression"
    report = "\n NDICATION: cough\n FINDINGS: clear"
    assert sectioned(1, report)["impression"] == ""
    assert sectioned(1, report, corrected=False)["impression"] == "cough"


def test_the_last_occurrence_wins_and_is_stripped():
    report = "\n IMPRESSION: wet read\n FINDINGS: a\n IMPRESSION:\n\n  final \n COMPARISON: x"
    assert sectioned("s50414267", report) == {
        "impression": "final", "findings": "a", "last_paragraph": "", "comparison": "x",
    }  # fmt: skip


# The list of LoVT, which stands apart from the table of overrides.
LOVT_54 = """50058765 50196495 50525523 50743547 50798377 50808053 50913680 51410602 51491012 51966317
52035334 52119491 52648681 52674888 53071062 53182247 53202765 53356173 53488209 53514462
53607029 54168089 54231141 54365831 54654948 54875119 54986978 55124749 55157853 55258338
56412866 56451190 56482935 56579911 56724958 56760320 57150433 57564132 57936451 58157373
58235663 58375018 59003148 59067458 59087630 59215320 59279892 59330497 59363654 59505494
59562049 59768032 59889364 59982525"""


def test_the_irregular_studies_are_the_54_and_every_one_has_a_rule():
    assert sorted(map(int, LOVT_54.split())) == sorted(IRREGULAR_STUDIES)
    assert len(IRREGULAR_STUDIES) == 54
    assert all(override(study, REPORT) is not None for study in IRREGULAR_STUDIES)
    assert override(50414267, REPORT) is None


def test_overrides_take_a_section_a_slice_or_nothing():
    report = "\n RECOMMENDATIONS: first\n RECOMMENDATION(S): second \n INDICATION: all of it\n NOTE: a note"
    assert override("s50913680", report) == "second"
    assert override(57936451, report) == "all of it"
    assert override("56451190", report) == "a note"
    assert override(51491012, report) == ""  # no history here
    digits = "".join(chr(0x100 + k) for k in range(1000))
    assert override(50525523, digits) == digits[201:349]
    assert override(54875119, digits) == digits[234:988]
    assert override(58235663, digits) == ""


def test_irregular_studies_are_dropped_by_default_as_published():
    report = "\n INDICATION: everything\n IMPRESSION: x"
    assert sectioned("s57936451", report) is None
    assert sectioned("s57936451", report, irregular="override") == dict.fromkeys(COLUMNS, "") | {
        "impression": "everything"
    }
    assert sectioned("s57936451", report, irregular="keep")["impression"] == "x"
    with pytest.raises(ConfigurationError, match="drop, override or keep: got 'drpo'"):
        sectioned("s57936451", report, irregular="drpo")


def test_study_numbers():
    assert study_number("s50414267") == study_number("50414267") == study_number(50414267) == 50414267
    with pytest.raises(ConfigurationError, match="got 'p10000032'"):
        study_number("p10000032")


@pytest.mark.parametrize(
    ("impression", "findings", "expected"),
    [
        ("No acute process.", "Clear lungs.", ["no acute process", "clear lungs"]),
        ("1. Edema is mild.\n2. Nodule of 2.5 cm.", None, ["edema is mild", "nodule of", "5 cm"]),
        ("Normal. No change seen here.", "", ["no change seen here"]),  # one token is no sentence
        ("Two\ufffd\ufffdwords now.", None, ["two words now"]),
        ("Right-sided PICC; tip_1 x.", None, ["right sided picc tip_1 x"]),
        ("Épanchement à droite.", None, ["panchement droite"]),  # two tokens are left: too few, see below
        ("Pleural effusion.", None, []),
        ("é è ê. Some real words.", None, ["some real words"]),
        (None, None, []),
        ("a b", "c", ["a b c"]),
        ("T12. vertebra is old", None, ["vertebra is old"]),  # "12." parts too; "t" alone goes
    ],
)
def test_captions_by_the_published_description(impression, findings, expected):
    expected = [] if sum(len(text.split()) for text in expected) < 3 else expected
    assert caption(impression, findings) == expected


@given(st.text(alphabet="ab1. \n,\ufffdé", max_size=60), st.text(max_size=60))
def test_a_caption_is_what_a_plain_reading_of_the_rule_gives(impression, findings):
    text = f"{impression or ' '} {findings or ' '}".replace("\n", " ")
    kept = []
    for numbered in re.split(r"[0-9]+\.", text):
        for part in numbered.split("."):
            tokens = re.findall(r"\w+", part.replace("\ufffd\ufffd", " ").lower())
            if len(tokens) > 1:
                ascii_only = ["".join(c for c in token if ord(c) < 128) for token in tokens]
                kept.append(" ".join(token for token in ascii_only if token))
    kept = [sentence for sentence in kept if sentence]
    assert caption(impression, findings) == (kept if sum(len(k.split()) for k in kept) >= 3 else [])


@given(
    st.lists(st.sampled_from(["\n ", "\n", " ", "FINDINGS", "IMPRESSION:", ":", "CHEST", "x", "é"])).map(
        "".join
    )
)
def test_sections_lose_no_text_but_headers(report):
    found = [part for part in sections(report) if part.name != "last_paragraph"]
    position = 0
    for part in found:
        position = report.index(part.text, position)
    assert all(not part.text or part.text in report for part in sections(report))


HOSTILE = {
    "newline spaces": "\n ", "capitals": "A", "header starts": "\n A", "headers": "\n A: ", "colons": ":",
    "blank lines": "\n \n", "digits": "1", "dots": ".", "spaces": " ", "newlines": "\n",
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.timeout(30)
def test_a_hundred_kilobytes_come_back(kind):
    # A quadratic expression over 1e5 characters runs for minutes: the mark is the assertion.
    report = "\n FINDINGS: x\n " + HOSTILE[kind] * (100_000 // len(HOSTILE[kind]))
    assert sectioned(1, report)["findings"].startswith("x")
    caption(report, report)

"""Sections and impressions: an own corpus of odd reports, properties, and the real OpenI reports in place."""

import importlib.util
import tarfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from work import assert_linear

from radlearn.data._section_names import ALIASES, PUBLIC_NAMES, VIEW_TITLES
from radlearn.data.reports import Section, clean, findings, impression, last_paragraph, sections

CORPUS = {
    "plain": ("FINDINGS: Clear lungs.\n\nIMPRESSION: No acute disease.", "No acute disease."),
    "wrapped over lines": ("IMPRESSION:\n\n No acute\n  lung\tdisease.\n", "No acute lung disease."),
    "windows line ends": ("FINDINGS:\r\nClear.\r\nIMPRESSION:\r\nNo\r\nedema.\r\n", "No edema."),
    "old mac line ends": ("FINDINGS:\rClear.\rIMPRESSION:\rNo edema.", "No edema."),
    "byte order mark": ("\ufeffIMPRESSION: Normal.", "Normal."),
    "indented, as MIMIC-CXR is": (" FINAL REPORT\n EXAM:  CT.\n \n IMPRESSION: \n \n Normal.\n", "Normal."),
    "lower-case header": ("findings: clear lungs.\nimpression: normal chest.", "normal chest."),
    "title-case header": ("Findings: clear.\nImpression: Normal.\nRecommendation: none.", "Normal."),
    "space before the colon": ("IMPRESSION : Normal.", "Normal."),
    "no colon, alone on its line": ("FINDINGS\nClear.\nIMPRESSION\nNormal.", "Normal."),
    "no colon, text behind": ("FINDINGS Lungs are clear.\nIMPRESSION No pneumonia.", "No pneumonia."),
    "no colon, numbered": ("IMPRESSION 1. No pneumonia.", "1. No pneumonia."),
    "dash for a colon": ("Findings - clear.\nImpression - no edema.", "no edema."),
    "header word inside a sentence": ("IMPRESSION: Final impression of edema.", "Final impression of edema."),
    "header word opens a sentence": ("IMPRESSION: Edema.\nFindings were told.", "Edema. Findings were told."),
    "lower-case word on a line of its own": ("IMPRESSION: No\nfindings\nabove.", "No findings above."),
    "numbered list": ("IMPRESSION:\n1. Edema.\n2. Small effusion.", "1. Edema. 2. Small effusion."),
    "two impressions, the last": ("IMPRESSION: Wet read.\nFINDINGS: x.\nIMPRESSION: Final.", "Final."),
    "two impressions, the last is empty": ("IMPRESSION: Edema.\nFINDINGS: x.\nIMPRESSION:\n", "Edema."),
    "the last holds no word": ("IMPRESSION: Edema.\nFINDINGS: x.\nIMPRESSION: ___.\n", "Edema."),
    "empty, then findings": ("IMPRESSION:\n\nFINDINGS: Clear lungs.", None),
    "no impression": ("FINDINGS: Clear lungs.", None),
    "empty report": ("", None),
    "only white space": (" \r\n\t\n", None),
    "an unknown header in capitals ends it": ("IMPRESSION: Edema.\nDICTATION NOTE: x", "Edema."),
    "an unknown header in lower case does not": ("IMPRESSION: Edema.\nnote: mild.", "Edema. note: mild."),
    "a time is no header": ("IMPRESSION: Edema.\n10:30 AM: called.", "Edema. 10:30 AM: called."),
    "a letter is no header": ("IMPRESSION:\nA: edema.\nB: effusion.", "A: edema. B: effusion."),
    "recommendation": ("IMPRESSION: Nodule.\nRECOMMENDATION(S): CT in 3 months.", "Nodule."),
    "notification": ("IMPRESSION: Tube too low.\nNOTIFICATION: Called at 9:00.", "Tube too low."),
    "signature": ("IMPRESSION: Normal.\n\nDictated by: A. Reader\nElectronically signed 1/1", "Normal."),
    "signature in capitals": ("IMPRESSION: Normal.\nELECTRONICALLY SIGNED BY A. READER", "Normal."),
    "prose that only sounds like one": ("IMPRESSION: Course dictated by edema.", "Course dictated by edema."),
    "end of impression": ("IMPRESSION: Normal.\nEND OF IMPRESSION:\nThank you.", "Normal."),
    "end of impression inside the line": ("IMPRESSION: Normal. END OF IMPRESSION", "Normal."),
    "addendum below does not win": ("IMPRESSION: Edema.\nADDENDUM:\nIMPRESSION: No edema.", "Edema."),
    "addendum holds the only one": ("FINDINGS: x.\nADDENDUM: See below.\nIMPRESSION: No edema.", "No edema."),
    "addendum above its report": (
        "ADDENDUM: Corrected.\nIMPRESSION: Not this.\nFINAL REPORT\nEXAMINATION: CHEST\nIMPRESSION: This.",
        "This.",
    ),
    "combined header": ("FINDINGS AND IMPRESSION: Normal.", "Normal."),
    "combined with a slash": ("FINDINGS / IMPRESSION: Normal.", "Normal."),
    "ampersand": ("IMPRESSION & PLAN: Normal.", "Normal."),
    "conclusion": ("FINDINGS: x\nCONCLUSION: Normal.", "Normal."),
    "abbreviated": ("IMP: Normal.", "Normal."),
    "misspelt": ("FINDINGS: x\nIMPRRESSION: Normal.", "Normal."),
    "lost line breaks": ("HISTORY: Cough. FINDINGS: Clear. IMPRESSION: Normal. EXAM: CT", "Normal."),
    "lost line breaks, two names in one": ("FINDINGS: x FINDINGS/IMPRESSION: Normal.", "Normal."),
    "accents": ("IMPRESSION: Épanchement pleural à gauche, 3 µm.", "Épanchement pleural à gauche, 3 µm."),
    "an accented header ends it": ("IMPRESSION: Normal.\nCONCLUSIÓN ANTERIOR: x", "Normal."),
    "not Latin": ("IMPRESSION: 両側胸水。", "両側胸水。"),
    "no-break spaces": ("IMPRESSION:\u00a0No\u00a0edema.", "No edema."),
    "form feed inside": ("IMPRESSION: No\x0cedema.", "No edema."),
    "de-identified": ("IMPRESSION: Seen with Dr. ___ at ___.", "Seen with Dr. ___ at ___."),
    "a name inside a header": ("FINDINGS: x\nPRELIMINARY IMPRESSION: Normal.", "Normal."),
    "a view title ends it": ("IMPRESSION: Edema.\nCHEST, SINGLE AP VIEW: Clear.", "Edema."),
    "a view in prose does not": ("IMPRESSION: Edema.\nChest: clear.", "Edema. Chest: clear."),
    "the public table's slip is no impression": ("IMPRESSION: Edema.\nNDICATION: Cough.", "Edema."),
    "header on a line of its own, then blank": (
        "IMPRESSION:\n \n \n Edema.\n \n No effusion.",
        "Edema. No effusion.",
    ),
    "header and dash": ("FINDINGS: x\nIMPRESSION - Edema.", "Edema."),
    "header twice": ("IMPRESSION: IMPRESSION: Edema.", "Edema."),
    "zero-width and soft hyphens": ("IMPRESSION: Ede\u00adma.", "Ede\u00adma."),
    "nothing but marks": ("IMPRESSION: ___ ___.", None),
    "a colon in prose": ("IMPRESSION: Note the following: edema.", "Note the following: edema."),
    "a ratio": ("IMPRESSION: Cardiothoracic ratio 1:2.", "Cardiothoracic ratio 1:2."),
    "comparison stays": ("IMPRESSION: Unchanged effusion. No edema.", "Unchanged effusion. No edema."),
}  # fmt: skip


@pytest.mark.parametrize("case", CORPUS)
def test_impression_of_an_odd_report(case):
    report, expected = CORPUS[case]
    assert impression(report) == expected


@pytest.mark.parametrize(
    ("report", "fallback", "expected"),
    [
        ("IMPRESSION:\n\nFINDINGS: Clear lungs.", "findings", "Clear lungs."),
        ("FINDINGS: Old.\nFINDINGS: New.", "findings", "New."),
        ("PA AND LATERAL VIEWS OF THE CHEST: Clear.", "findings", "Clear."),
        ("Chest, two views: Clear.", "findings", "Clear."),
        ("INDICATION: Cough.", "findings", None),
        ("FINDINGS: Clear.\n\nMore.", "last_paragraph", "Clear. More."),
        ("COMPARISON: None.\n\nClear lungs.\n\nNo edema.", "last_paragraph", "Clear lungs. No edema."),
        ("COMPARISON: None.", "last_paragraph", None),
        ("The lungs are clear.", "last_paragraph", "The lungs are clear."),
        ("RECOMMENDATION: CT.\n\nSoon.", "last_paragraph", None),
        ("IMPRESSION: Edema.\nFINDINGS: Clear.", "last_paragraph", "Edema."),
    ],
)  # fmt: skip
def test_fallbacks_stand_in_only_for_a_missing_impression(report, fallback, expected):
    assert impression(report, fallback=fallback) == expected


@pytest.mark.parametrize(
    ("options", "text", "expected"),
    [
        (
            {"strip_enumeration": True},
            "1. Edema.\n2) Effusion.\n(3) Line.\n- Tube.",
            "Edema. Effusion. Line. Tube.",
        ),
        ({"strip_enumeration": True}, "1. Edema. 2. Effusion of 1.5 cm.", "Edema. Effusion of 1.5 cm."),
        ({"strip_enumeration": True}, "1.Edema at level 2. 2.Effusion", "Edema at level 2. Effusion"),
        ({"deid": "remove"}, "Seen by Dr. ___ on [**2101-1-1**] x-XXXX.", "Seen by Dr. on x-."),
        ({"deid": "remove"}, "____", None),
        ({"drop_comparison": True}, "Unchanged effusion. No edema. Stable heart.", "No edema."),
        ({"drop_comparison": True}, "As compared to the prior study, no change.", None),
        ({"drop_comparison": True}, "Increased lung markings.", "Increased lung markings."),
    ],
)
def test_options_change_only_what_they_name(options, text, expected):
    assert clean(text, **options) == expected
    assert impression(f"IMPRESSION:\n{text}", **options) == expected


def test_sections_keep_order_names_and_line_breaks():
    report = (
        "Chest\nINDICATION: Cough\nLUNGS AND PLEURA: Clear.\n\nNo fluid.\nIMPRESSION:\nNormal.\nRead by: X"
    )
    assert sections(report) == [
        Section("preamble", "Chest"),
        Section("indication", "Cough"),
        Section("lungs and pleura", "Clear.\n\nNo fluid."),
        Section("impression", "Normal."),
        Section("signature", ": X"),
    ]


def test_findings_leaves_the_other_sections_out():
    assert findings("FINDINGS: Clear\nlungs.\nIMPRESSION: Normal.") == "Clear lungs."
    assert findings("IMPRESSION: Normal.") is None


def test_the_public_table_is_known_whole_with_its_slip_put_right():
    ours = {"history": "indication", "recommendations": "recommendation", "wet read": "wet_read"}
    for spelling, name in PUBLIC_NAMES.items():
        expected = "indication" if spelling == "ndication" else ours.get(name, name)
        assert sections(f"{spelling.upper()}: text") == [Section(expected, "text")], spelling


@pytest.mark.parametrize("title", VIEW_TITLES)
def test_a_capital_header_that_contains_a_view_holds_findings(title):
    # A line header has letters only, so "SEMI-UPRIGHT VIEW OF" and the like lead to "findings" by the view.
    assert sections(f"{title.upper()} IMAGE: Clear.") == [Section("findings", "Clear.")]
    assert findings(f"INDICATION: x\n{title.upper()}: Clear.") == "Clear."


def test_the_last_paragraph_can_be_had_alone():
    assert last_paragraph(" COMPARISON: None.\n \n Clear lungs.\n \n No edema.\n") == "Clear lungs. No edema."
    assert last_paragraph("The lungs\nare clear.") == "The lungs are clear."
    assert last_paragraph("COMPARISON: None.") is None
    assert last_paragraph("INDICATION: x\n\nClear.\nRECOMMENDATION: CT.\n\nSoon.") == "Clear."


def test_every_known_name_opens_a_section():
    for spelling, name in ALIASES.items():
        assert sections(f"{spelling}: text") == [Section(name, "text")]
        assert sections(f"{spelling.upper()}: text") == [Section(name, "text")]
        assert sections(f"HEART: x. {spelling.upper()}: text")[-1] == Section(name, "text")


headers = st.sampled_from(
    ["IMPRESSION:", "Impression:", "impression :", "IMPRESSION", "FINDINGS:", "FINDINGS", "HEART:",
     "FINDINGS/IMPRESSION:", "ADDENDUM:", "FINAL REPORT", "RECOMMENDATION(S):", "AND PLAN:", "Dictated by",
     "END OF IMPRESSION", "TWO VIEWS:", "WET READ:", "Conclusion -"]
)  # fmt: skip
fragments = st.sampled_from(
    ["1.", "2)", "-", "___", "XXXX", "No edema.", "unchanged.", "Dr.", ":", "(", "&", "/", "É", "5 cm", "AP"]
)  # fmt: skip
spaces = st.sampled_from([" ", "\n", "\r\n", "\n\n", "  ", "\t", "\u00a0"])
reports = st.lists(st.one_of(headers, fragments, spaces, st.text(max_size=4)), max_size=30).map("".join)
options = st.fixed_dictionaries(
    {
        "strip_enumeration": st.booleans(),
        "deid": st.sampled_from(["keep", "remove"]),
        "drop_comparison": st.booleans(),
    }
)


@given(report=reports, options=options, fallback=st.sampled_from(["none", "findings", "last_paragraph"]))
@settings(max_examples=200, deadline=None)
def test_an_extracted_impression_extracts_to_itself(report, options, fallback):
    text = impression(report, fallback=fallback, **options)
    if text is not None:
        assert impression(f"IMPRESSION: {text}", **options) == text


@given(report=reports)
@settings(max_examples=200, deadline=None)
def test_an_impression_lies_within_one_section_and_holds_no_header(report):
    text = impression(report)
    if text is not None:
        own = [" ".join(part.text.split()) for part in sections(report) if part.name == "impression"]
        assert any(whole.startswith(text) for whole in own)
        assert [s.name for s in sections(f"NOTE: {text}")] == ["note"]


@given(report=reports)
@settings(max_examples=200, deadline=None)
def test_line_ends_do_not_matter(report):
    unix = report.replace("\r\n", "\n").replace("\r", "\n")
    assert impression(unix.replace("\n", "\r\n")) == impression(unix)


@given(report=st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text_has_sections_and_nothing_is_invented(report):
    letters = [c for c in report if c.isalpha()]
    assert sum(c.isalpha() for s in sections(report) for c in s.text) <= len(letters)


HOSTILE = {
    "spaces": " ", "newlines": "\n", "colons": ":", "letters": "a", "capitals": "A", "capital words": "A ",
    "known names": "IMPRESSION ", "headers": "IMPRESSION: ", "lines": "IMPRESSION:\nx\n", "underscores": "_",
    "brackets": "[**", "stars": "[***", "numbers": "1. ", "spaced stops": "  .", "dashes": " - ",
    "slashes": "A / ", "signatures": "Dictated by ", "capital colons": "AB:", "sentences": "No change. ",
    "blank lines": "\n \n", "view titles": "CHEST, TWO VIEWS ", "view headers": "PORTABLE CHEST:\n",
    "tabs": "\t", "carriage returns": "\r", "form feeds": "\x0c", "brackets closed": "(A) ", "accents": "É ",
}  # fmt: skip


def _every_rule(report: str) -> str | None:
    return impression(
        report, fallback="last_paragraph", strip_enumeration=True, deid="remove", drop_comparison=True
    )


@pytest.mark.parametrize("kind", HOSTILE)
def test_work_grows_linearly_with_the_report(kind):
    assert_linear(_every_rule, HOSTILE[kind], 2_000, "/reports.py")


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.timeout(60)
def test_a_hundred_kilobytes_come_back(kind):
    # A quadratic expression over 1e5 characters runs for minutes: the mark is the assertion.
    unit = HOSTILE[kind]
    report = "IMPRESSION: " + unit * (100_000 // len(unit)) + "\nFINDINGS: end."
    _every_rule(report)


def _open_i() -> Path:
    found = importlib.util.find_spec("torchxrayvision")
    if found is None or not found.submodule_search_locations:
        pytest.skip("torchxrayvision is not installed: it brings the OpenI reports")
    return Path(found.submodule_search_locations[0]) / "data" / "NLMCXR_reports.tgz"


def test_the_real_open_i_reports_come_back_section_by_section():
    """Reference counts of the release: 3,955 reports, 3,425 with findings, 3,921 with an impression."""
    counts = {"report": 0, "findings": 0, "impression": 0}
    wrong = []
    with tarfile.open(_open_i()) as archive:
        for member in archive:
            if not member.name.endswith(".xml"):
                continue
            nodes = ElementTree.parse(archive.extractfile(member)).iter("AbstractText")
            truth = {node.get("Label"): " ".join((node.text or "").split()) for node in nodes}
            report = "\n\n".join(f"{label}: {text}" for label, text in truth.items())
            counts["report"] += 1
            for name, extract in (("findings", findings), ("impression", impression)):
                counts[name] += bool(truth[name.upper()])
                if (extract(report) or "") != truth[name.upper()]:
                    wrong.append(member.name)
    assert counts == {"report": 3955, "findings": 3425, "impression": 3921}
    # Four end in "END OF REPORT.", one holds a whole second report with headers: rightly cut.
    assert len(wrong) == 5, wrong

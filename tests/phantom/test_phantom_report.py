import collections
import re

import numpy as np
import pytest

from radlearn.phantom import num_studies, phrases, render_case
from radlearn.phantom.report import misspell, trend
from radlearn.phantom.scene import Finding

# A word that a sentence about each finding always has one of.
WORDS = {
    "cardiomegaly": "heart|cardi",
    "effusion": "effusion|fluid|costophrenic",
    "pneumothorax": "pneumothorax",
    "consolidation": "consolidation|opacity",
    "atelectasis": "atelecta",
    "edema": "edema",
    "nodule": "nodule|mass|opacity",
    "devices": "in place|in expected position|noted",
}


@pytest.fixture(scope="module")
def cases():
    return [
        render_case(21, patient, study, 32)
        for patient in range(60)
        for study in range(num_studies(21, patient))
    ]


def test_sentences_make_up_the_findings_and_point_at_their_boxes(cases):
    matches = []
    for case in cases:
        assert " ".join(sentence.text for sentence in case.sentences) == case.findings_text
        for sentence in case.sentences:
            kinds = {case.boxes[index].finding for index in sentence.boxes}
            assert len(kinds) <= 1
            for kind in kinds:
                course = phrases.TOPICS[kind] in sentence.text.lower() or "prior" in sentence.text
                matches.append(course or bool(re.search(WORDS[kind], sentence.text, re.IGNORECASE)))
    assert len(matches) > 50
    assert np.mean(matches) > 0.97  # a typing error may hide a word


def test_most_present_findings_are_reported_and_absent_ones_never_claimed(cases):
    reported = collections.Counter()
    for case in cases:
        linked = {case.boxes[index].finding for sentence in case.sentences for index in sentence.boxes}
        present = {kind for kind, label in case.labels.items() if label}
        assert linked <= present
        reported.update({"present": len(present), "linked": len(linked)})
    assert 0.9 < reported["linked"] / reported["present"] < 1.0


def test_the_impression_says_no_acute_process_only_where_nothing_is_reported(cases):
    for case in cases:
        linked = any(sentence.boxes for sentence in case.sentences)
        assert (case.impression == phrases.NO_ACUTE) == (not linked)


def test_reports_have_sections_except_a_few(cases):
    with_headers = [case for case in cases if "FINDINGS:" in case.report]
    assert 0.8 < len(with_headers) / len(cases) < 1.0
    for case in with_headers:
        match = re.search(r"FINDINGS: (.*)\n\nIMPRESSION: (.*)$", case.report, re.DOTALL)
        assert match
        assert match.groups() == (case.findings_text, case.impression)
    for case in cases:
        assert case.findings_text in case.report
        assert "{" not in case.report


def test_sides_and_sizes_in_the_text_are_those_of_the_image(cases):
    for case in cases:
        for sentence in case.sentences:
            kinds = {case.boxes[index].finding for index in sentence.boxes}
            sides = set(re.findall(r"\b(left|right)\b", sentence.text.lower()))
            for kind in kinds - {"devices"}:
                assert sides <= {case.details[kind]["side"]}
                for index in sentence.boxes:
                    box = case.boxes[index]
                    if sides and kind in ("effusion", "pneumothorax", "nodule"):
                        # The patient's left is on the right of the image.
                        assert ("left" in sides) == (box.x + box.w / 2 > 16)


def test_second_studies_speak_of_the_first(cases):
    later = [case for case in cases if case.study > 0]
    words = re.compile(r"unchanged|new|increased|worsened|decreased|improved|resolved|resolution")
    assert sum(bool(words.search(case.findings_text)) for case in later) > len(later) / 5
    for case in cases:
        if "FINDINGS:" in case.report:
            assert ("COMPARISON: None." in case.report) == (case.study == 0)


def test_some_findings_are_hedged(cases):
    hedges = re.compile(r"may represent|possible|probable|suspected|likely", re.IGNORECASE)
    share = np.mean([bool(hedges.search(case.impression)) for case in cases])
    assert 0.02 < share < 0.35


def finding(rank: int, side: str = "left") -> Finding:
    return Finding("effusion", side, "small", rank, "pleura", {}, 0)


def test_trend_compares_the_same_finding_on_the_same_side():
    assert trend(finding(1), (finding(1),)) == "unchanged"
    assert trend(finding(2), (finding(1),)) == "increased"
    assert trend(finding(0), (finding(1),)) == "decreased"
    assert trend(finding(0, "right"), (finding(1),)) == trend(finding(0), ()) == "new"


def test_a_typing_error_swaps_two_letters_of_one_word():
    text = "There is a small pneumothorax."
    for seed in range(10):
        wrong = misspell(np.random.default_rng(seed), text + " Effusion likewise")
        assert sorted(wrong) == sorted(text + " Effusion likewise")
    assert misspell(np.random.default_rng(0), "No edema.") == "No edema."

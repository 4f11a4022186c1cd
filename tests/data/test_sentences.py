"""Sentences: odd texts checked by hand, properties, and the real OpenI reports, read in place."""

import importlib.util
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from work import assert_linear

from radlearn.data.sentences import num_tokens, split
from radlearn.manifests.openi import OpenI

ODD = {
    "plain": ("Clear lungs. No effusion.", ["Clear lungs.", "No effusion."]),
    "no last stop": ("Clear lungs. No effusion", ["Clear lungs.", "No effusion"]),
    "decimals": ("A 2.5 cm nodule, was 1.4 cm. Stable.", ["A 2.5 cm nodule, was 1.4 cm.", "Stable."]),
    "a decimal opens": ("0.5 cm nodule. 1.5 cm mass.", ["0.5 cm nodule.", "1.5 cm mass."]),
    "title": ("Discussed with Dr. Reader. Done.", ["Discussed with Dr. Reader.", "Done."]),
    "title and mark": ("Called Dr. ___ at 9. Done.", ["Called Dr. ___ at 9.", "Done."]),
    "title opens": ("Dr. XXXX XXXX was told. Done.", ["Dr. XXXX XXXX was told.", "Done."]),
    "versus": ("Atelectasis vs. Pneumonia. No edema.", ["Atelectasis vs. Pneumonia.", "No edema."]),
    "approx.": ("It is approx. 5 mm. Stable.", ["It is approx. 5 mm.", "Stable."]),
    "for example": (
        "Old disease, e.g. Histoplasmosis, i.e. scars. X.",
        ["Old disease, e.g. Histoplasmosis, i.e. scars.", "X."],
    ),
    "et cetera": (
        "Lines, tubes, etc. are gone. Lines etc. No drain.",
        ["Lines, tubes, etc. are gone.", "Lines etc.", "No drain."],
    ),
    "list": ("1. Edema. 2. No effusion. 10. Stable.", ["1. Edema.", "2. No effusion.", "10. Stable."]),
    "list with a bracket": ("1) Edema. 2) Stable.", ["1) Edema.", "2) Stable."]),
    "list over lines": ("1. Edema\n2. No effusion\n", ["1. Edema", "2. No effusion"]),
    "list without stops": ("1. Edema 2. No effusion", ["1. Edema", "2. No effusion"]),
    "a size after the number": ("1. 6 mm nodule. 2. 1.4 cm mass.", ["1. 6 mm nodule.", "2. 1.4 cm mass."]),
    "bullets": ("- Edema\n- Effusion, left\n  more", ["- Edema", "- Effusion, left more"]),
    "lettered list": ("A. Edema. B. Stable.", ["A. Edema.", "B. Stable."]),
    "a vertebra ends it": ("Fracture of T1. No other.", ["Fracture of T1.", "No other."]),
    "vertebrae": ("At T5 and L2. 2. Left catheter.", ["At T5 and L2.", "2. Left catheter."]),
    "a number ends it": ("Seen in 2011. 3 nodules remain.", ["Seen in 2011.", "3 nodules remain."]),
    "number of": ("Compared with No. 3. No change.", ["Compared with No. 3.", "No change."]),
    "the answer no": ("Edema: no. The heart is normal.", ["Edema: no.", "The heart is normal."]),
    "initials": ("Called to J. K. Reader. Done.", ["Called to J. K. Reader.", "Done."]),
    "a letter ends it": (
        "Known hepatitis C. The liver is large.",
        ["Known hepatitis C.", "The liver is large."],
    ),
    "degree": ("Read by A. Reader, M.D. The end.", ["Read by A. Reader, M.D.", "The end."]),
    "time": ("Told at 9:30 a.m. by phone. At 3 p.m. The tube is out.",
             ["Told at 9:30 a.m. by phone.", "At 3 p.m.", "The tube is out."]),
    "time and mark": ("Called at XXXX p.m. XXXX, XXXX. Done.", ["Called at XXXX p.m. XXXX, XXXX.", "Done."]),
    "unit with a stop": (
        "It is 5 cm. in size. It is 5 cm. Stable.",
        ["It is 5 cm. in size.", "It is 5 cm.", "Stable."],
    ),
    "ellipsis": ("Lungs ... clear. Heart... Normal.", ["Lungs ... clear.", "Heart...", "Normal."]),
    "two stops": ("No effusion.. Heart normal.", ["No effusion..", "Heart normal."]),
    "a lone stop": ("No effusion. . Heart normal. .", ["No effusion. .", "Heart normal. ."]),
    "lower case": (
        "no effusion. heart is normal. cardiomegaly.",
        ["no effusion.", "heart is normal.", "cardiomegaly."],
    ),
    "missing space": ("Heart is normal.No effusion.", ["Heart is normal.", "No effusion."]),
    "missing space after a mark": ("Clear XXXX.There is edema.", ["Clear XXXX.", "There is edema."]),
    "semicolon": ("No effusion; mild edema.", ["No effusion; mild edema."]),
    "colon": ("Chest: The heart is normal.", ["Chest: The heart is normal."]),
    "question": ("Pneumonia? Please correlate. (?edema).", ["Pneumonia?", "Please correlate.", "(?edema)."]),
    "exclamation": ("Called! Done.", ["Called!", "Done."]),
    "brackets": ("Edema (see above). No effusion.", ["Edema (see above).", "No effusion."]),
    "a sentence in brackets": (
        "Edema. (Seen before.) No effusion.",
        ["Edema.", "(Seen before.)", "No effusion."],
    ),
    "quotes": ('He has "edema." No effusion.', ['He has "edema."', "No effusion."]),
    "wrapped lines": ("No acute\n lung\tdisease.\r\nStable.", ["No acute lung disease.", "Stable."]),
    "blank line": ("PA view\n \nClear lungs", ["PA view", "Clear lungs"]),
    "a mark ends it": ("Seen on ___. No change.", ["Seen on ___.", "No change."]),
    "a mark opens": ("No change. ___ is seen.", ["No change.", "___ is seen."]),
    "slashes": ("Effusion and/or edema. T1/2. Stable.", ["Effusion and/or edema.", "T1/2.", "Stable."]),
    "accents": ("Épanchement. Élevé.", ["Épanchement.", "Élevé."]),
    "form feed": ("No\x0cedema. Stable.", ["No edema.", "Stable."]),
    "nothing": ("", []),
    "blanks": (" \n\t", []),
    "no word": (". . -", []),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
def test_odd_texts(case):
    text, expected = ODD[case]
    assert split(text) == expected


pieces = st.sampled_from(
    ["No edema", "Dr", "vs", "approx", "2.5", "cm", "1", "2", "12", "T1", "A", "e.g", "a.m", "___", "XXXX",
     ".", "..", "...", "?", "!", ";", ":", "(", ")", '"', "-", "*", " ", "  ", "\n", "\r\n", "\n\n", "\t",
     "é", "the", "Heart", "normal.No", "etc", "no", "No", "\u00a0", "。"]
)  # fmt: skip
texts = st.one_of(st.lists(pieces, max_size=25).map("".join), st.text(max_size=60))


@given(texts)
@example("No edema\n\n.\n\nNo edema")  # a paragraph without a word is left out
@settings(max_examples=300, deadline=None)
def test_sentences_lose_and_invent_nothing(text):
    found = split(text)
    rest = "".join(text.split())
    for sentence in found:  # each is in the text, in order and apart
        before, at, rest = rest.partition(sentence.replace(" ", ""))
        assert at
        assert not any(c.isalnum() for c in before)
    assert all(any(c.isalnum() or c == "_" for c in sentence) for sentence in found)
    words = "".join(c for c in text if c.isalnum())
    assert "".join(c for sentence in found for c in sentence if c.isalnum()) == words


@given(texts)
@settings(max_examples=300, deadline=None)
def test_a_sentence_splits_into_itself(text):
    for sentence in split(text):
        assert split(sentence) == [sentence]
        assert sentence == " ".join(sentence.split())


@given(texts)
@settings(max_examples=100, deadline=None)
def test_line_ends_do_not_matter(text):
    unix = text.replace("\r\n", "\n").replace("\r", "\n")
    assert split(unix.replace("\n", "\r\n")) == split(unix)


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("No pleural effusion.", 4),
        ("A 2.5 cm nodule.", 5),
        ("right-sided", 3),
        ("", 0),
        ("___ (x)", 4),
        ("1,000", 1),
    ],
)
def test_tokens_are_words_numbers_and_marks(sentence, expected):
    assert num_tokens(sentence) == expected


HOSTILE = {
    "stops": ".", "spaced stops": ". ", "words": "a ", "sentences": "No edema. ", "numbers": "1. ",
    "lines": "1. a\n",
    "newlines": "\n", "spaces": " ", "letters": "a", "initials": "A. ", "dotted": "a.", "brackets": ")",
    "missing": "abc.Def", "underscores": "_", "digits": "1", "items": "1. A 2. B ",
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_work_grows_linearly_with_the_text(kind):
    assert_linear(split, HOSTILE[kind], 1_000, "/sentences.py")


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.timeout(30)
def test_a_hundred_kilobytes_come_back(kind):
    # A quadratic loop or expression over 1e5 characters runs for minutes: the mark is the assertion.
    split(HOSTILE[kind] * (100_000 // len(HOSTILE[kind])))
    num_tokens(HOSTILE[kind] * (100_000 // len(HOSTILE[kind])))


def test_the_real_open_i_reports():
    """About 22,840 sentences: they keep every character of their texts, and split into themselves."""
    spec = importlib.util.find_spec("torchxrayvision")
    table = OpenI().read_reports(Path(next(iter(spec.submodule_search_locations))) / "data")
    counts, lengths = [], []
    for column in ("findings", "impression"):
        for text in table[column].drop_nulls():
            found = split(text)
            assert "".join(found).replace(" ", "") == text.replace(" ", "")
            assert all(split(sentence) == [sentence] for sentence in found)
            counts.append(len(found))
            lengths += map(num_tokens, found)
    assert len(counts) == 3425 + 3921
    assert sum(counts) == pytest.approx(22_848, rel=0.002)
    assert max(counts) < 30
    assert max(lengths) < 60  # a splitter that misses ends makes sentences of a whole report
    assert sorted(lengths)[len(lengths) // 2] == 7

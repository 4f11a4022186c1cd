"""Sets of a wanted size: balanced over labels, or of whole patients."""

import hashlib

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radlearn.data.balanced import balanced_set, draw_patients
from radlearn.errors import ConfigurationError, DataError

LABELS = ("Edema", "Mass")


def table(rows):
    """(image, patient, Edema, Mass, Device)."""
    schema = {"image_id": pl.String, "patient_id": pl.String}
    schema |= dict.fromkeys((*LABELS, "Device"), pl.Float32)
    return pl.DataFrame(rows, schema=schema, orient="row")


def many(num_patients=60):
    """Patients of two images; by patient one of Edema, Mass, both, edema with a device, neither."""
    codes = [(1, 0, None), (0, 1, 0), (1, 1, 0), (1, None, 1), (None, None, None)]
    rows = [(f"{p}-{k}", f"p{p}", *codes[p % 5]) for p in range(num_patients) for k in range(2)]
    return table(rows)


def test_every_label_has_its_number_of_images_and_every_patient_one():
    drawn = balanced_set(many(), LABELS, 8, seed=0, among=("Device",))
    assert drawn.labels.value_counts().sort("label").rows() == [("Edema", 8), ("Mass", 8)]
    assert drawn.rows["patient_id"].is_unique().all()
    for label, edema, mass, device in zip(
        drawn.labels, *(drawn.rows[name] for name in (*LABELS, "Device")), strict=True
    ):
        assert {"Edema": edema, "Mass": mass}[label] == 1
        assert [edema, mass, device].count(1) == 1


@given(seed=st.integers(0, 5), shuffle=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_the_order_of_rows_does_not_matter(seed, shuffle):
    rows = many()
    drawn = balanced_set(rows, LABELS, 5, seed)
    again = balanced_set(rows.sample(fraction=1, shuffle=True, seed=shuffle), LABELS[::-1], 5, seed)
    assert again.hash == drawn.hash
    assert {*again.rows["image_id"]} == {*drawn.rows["image_id"]}


def test_another_seed_is_another_set_and_the_hash_is_of_images_and_labels():
    one, two = (balanced_set(many(), LABELS, 5, seed) for seed in (0, 1))
    assert one.hash != two.hash
    lines = sorted(f"{image}\t{label}" for image, label in zip(one.rows["image_id"], one.labels, strict=True))
    assert one.hash == hashlib.sha256("\n".join(lines).encode()).hexdigest()


def test_the_draw_goes_by_sha_256_of_seed_and_image():
    rows = table([(f"i{k}", f"p{k}", 1, 0, 0) for k in range(30)])
    order = sorted(rows["image_id"], key=lambda image: hashlib.sha256(b"7\0" + image.encode()).digest())
    assert {*balanced_set(rows, ["Edema"], 4, seed=7).rows["image_id"]} == {*order[:4]}


@pytest.mark.parametrize("other", [1, -1])
def test_images_with_another_positive_or_uncertain_label_are_not_exclusive(other):
    rows = table([("a", "1", 1, other, 0), ("b", "2", 1, None, 0), ("c", "3", 1, 0, other)])
    assert balanced_set(rows, ["Edema"], 1, 0, among=(*LABELS, "Device")).rows["image_id"].to_list() == ["b"]
    assert len(balanced_set(rows, ["Edema"], 3, 0, exclusive=False).rows) == 3
    with pytest.raises(DataError, match=r"'Edema' has 1 images.*no other label.*2 are wanted"):
        balanced_set(rows, ["Edema"], 2, 0, among=(*LABELS, "Device"))


def test_uncertain_and_blank_are_not_positive():
    rows = table([("a", "1", -1, 0, 0), ("b", "2", None, 0, 0)])
    with pytest.raises(DataError, match="'Edema' has 0 images"):
        balanced_set(rows, ["Edema"], 1, 0)


def test_without_exclusion_an_image_stands_for_one_label_only():
    rows = table([("a", "1", 1, 1, 0), ("b", "2", 1, 1, 0), ("c", "3", 1, 0, 0)])
    drawn = balanced_set(rows, LABELS, 1, 0, exclusive=False)
    assert drawn.rows["image_id"].n_unique() == 2
    with pytest.raises(DataError, match="'Edema' has 1 images"):
        balanced_set(rows, LABELS, 2, 0, exclusive=False)  # Mass, the rarer one, takes a and b


def test_a_label_with_few_candidates_keeps_its_patients():
    rows = table(
        [("m1", "1", 0, 1, 0), ("m2", "2", 0, 1, 0)]
        + [(f"e{p}-{k}", str(p), 1, 0, 0) for p in range(1, 5) for k in range(3)]
    )
    drawn = balanced_set(rows, LABELS, 2, 0)
    assert {*drawn.rows["patient_id"]} == {"1", "2", "3", "4"}


def test_a_patient_comes_twice_only_where_there_are_too_few():
    rows = table([(f"{p}-{k}", p, 1, 0, 0) for p in "ab" for k in range(4)])
    assert balanced_set(rows, ["Edema"], 2, 0).rows["patient_id"].sort().to_list() == ["a", "b"]
    assert {*balanced_set(rows, ["Edema"], 3, 0).rows["patient_id"]} == {"a", "b"}
    assert len(balanced_set(rows, ["Edema"], 8, 0).rows) == 8


def test_a_set_of_nothing_is_refused():
    with pytest.raises(ConfigurationError, match="at least one image"):
        balanced_set(many(), LABELS, 0, 0)
    with pytest.raises(ConfigurationError, match="has labels"):
        balanced_set(many(), [], 3, 0)


# --- whole patients


def patients(sizes):
    return pl.DataFrame({"patient_id": [name for name, size in sizes.items() for _ in range(size)]})


def test_patients_are_drawn_until_their_images_are_as_many_as_wanted():
    sizes = {f"p{k}": 1 + k % 3 for k in range(40)}
    rows = patients(sizes)
    for wanted in (0, 1, 7, 30):
        drawn = draw_patients(rows, wanted, seed=0)
        assert sum(sizes[name] for name in drawn) == wanted
        assert draw_patients(rows.reverse(), wanted, seed=0) == drawn
    assert draw_patients(rows, 30, seed=1) != draw_patients(rows, 30, seed=0)


def test_a_patient_with_more_images_than_remain_is_passed_over():
    names = sorted("abc", key=lambda name: hashlib.sha256(f"0\0{name}".encode()).digest())
    sizes = dict(zip(names, (2, 3, 1), strict=True))
    assert draw_patients(patients(sizes), 3, seed=0) == [names[0], names[2]]
    assert draw_patients(patients({"a": 2, "b": 2}), 3, seed=0) in (["a"], ["b"])  # one short
    assert {*draw_patients(patients(sizes), 99, seed=0)} == {*names}

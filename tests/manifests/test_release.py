"""Finding the files and columns of a release, and saying what is not there."""

import gzip
import zipfile

import pytest

from radlearn.errors import ConfigurationError, DataError
from radlearn.manifests import _release


@pytest.mark.parametrize("packed", ["", ".gz", ".zip"])
def test_a_table_is_found_and_read_packed_too(tmp_path, packed):
    text = b"Image Index, Mask\na.png, -1 \nb.png,\n"
    path = tmp_path / f"t.csv{packed}"
    if packed == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("t.csv", text)
            archive.writestr("__MACOSX/._t.csv", b"\0")
    else:
        path.write_bytes(gzip.compress(text) if packed else text)
    assert _release.find(tmp_path, "other.csv", "t.csv") == path
    rows = _release.read_columns(path, {"image": "Image Index", "mask": " Mask"})
    assert rows.rows() == [("a.png", "-1"), ("b.png", None)]


def test_what_is_missing_is_named_with_where_it_was_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"no table of labels in .*looked for a\.csv, sub/a\.csv"):
        _release.need(tmp_path, "a.csv", "sub/a.csv", what="table of labels")
    with pytest.raises(DataError, match=r"nowhere is no folder"):
        _release.need(tmp_path / "nowhere", "a.csv", what="table of labels")


def test_a_header_that_differs_is_an_error_that_names_the_nearest(tmp_path):
    (tmp_path / "t.csv").write_text("patient_id,box\n1,2\n")
    with pytest.raises(DataError, match=r"no column 'patientId'.*did you mean 'patient_id'.*release's own"):
        _release.read_columns(tmp_path / "t.csv", {"image_id": "patientId"})
    rows = _release.read_columns(tmp_path / "t.csv", {"id": "patient_id", "age": "Age"}, optional=("age",))
    assert rows.columns == ["id"]


def test_an_archive_of_several_tables_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "t.csv.zip", "w") as archive:
        archive.writestr("a.csv", "x\n1\n")
        archive.writestr("b.csv", "x\n1\n")
    with pytest.raises(DataError, match=r"wanted one table in the archive, found 2"):
        _release.read_columns(tmp_path / "t.csv.zip", {"x": "x"})


def test_a_damaged_archive_is_named(tmp_path):
    (tmp_path / "t.csv.zip").write_bytes(b"PK\3\4 no archive")
    with pytest.raises(DataError, match=r"t\.csv\.zip cannot be read"):
        _release.read_columns(tmp_path / "t.csv.zip", {"x": "x"})


def test_a_choice_that_is_none_names_the_nearest():
    assert _release.check_choice("split", "official", ("official", "lovt")) == "official"
    with pytest.raises(ConfigurationError, match=r"data\.split is one of .*did you mean 'lovt'"):
        _release.check_choice("split", "lovtt", ("official", "lovt"))

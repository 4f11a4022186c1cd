"""OpenI: the fake release row by row, reports alone, views, and the 3,955 real reports, read in place."""

import importlib.util
import io
import shutil
import tarfile
from pathlib import Path

import polars as pl
import pytest
import torch

from radlearn.data.finding_labels import LABELS
from radlearn.data.text_cache import TextCache
from radlearn.encoders.hashed_text import HashedText
from radlearn.errors import ConfigurationError, DataError
from radlearn.manifests import _openi_mesh
from radlearn.manifests._openi_reports import parse
from radlearn.manifests.checks import fingerprint
from radlearn.manifests.openi import OpenI
from radlearn.prepare import prepare

# What the release itself holds (Demner-Fushman et al. 2016; counted in the archive of torchxrayvision).
NUM_REPORTS, NUM_FINDINGS, NUM_IMPRESSIONS, NUM_IMAGES = 3955, 3425, 3921, 7470


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("openi")
    OpenI.fake(folder)
    return folder


def row(release, image_id):
    return release.rows.row(by_predicate=pl.col("image_id") == image_id, named=True)


def positive(values):
    return {label for label in LABELS if values[label] == 1}


# --- rows of the fake release


def test_a_row_holds_the_report_of_its_image(root):
    release = OpenI().read(root)
    image = row(release, "CXR7_IM-0007-1001")
    assert image["path"] == "NLMCXR_png/CXR7_IM-0007-1001.png"
    assert image["patient_id"] == image["study_id"] == "CXR7"
    assert image["findings"] == "Mild cardiomegaly."  # cut at END OF REPORT
    assert image["impression"] == "1. Mild cardiomegaly. 2. No edema."
    assert [s["text"] for s in image["sentences"]] == [
        "Mild cardiomegaly.",
        "1. Mild cardiomegaly.",
        "2. No edema.",
    ]
    assert "INDICATION: XXXX-year-old with cough" in image["report"]
    assert positive(image) == {"Cardiomegaly"}
    assert image["Edema"] == 0
    other = row(release, "CXR7_IM-0007-2001")
    assert {k: v for k, v in other.items() if k not in ("image_id", "path")} == {
        k: v for k, v in image.items() if k not in ("image_id", "path")
    }


def test_missing_sections_are_null(root):
    release = OpenI().read(root)
    image = row(release, "CXR2_IM-0002-1001")
    assert (image["findings"], image["impression"]) == (None, "No acute disease.")
    image = row(release, "CXR3_IM-0003-1001")
    assert (image["findings"], image["impression"]) == ("There is XXXX scarring at the left base.", None)
    image = row(release, "CXR4_IM-0004-1001")
    assert (image["findings"], image["impression"], image["sentences"]) == (None, None, None)
    assert all(image[label] is None for label in LABELS)  # No Indexing
    assert (
        row(OpenI(impression_fallback="findings").read(root), "CXR3_IM-0003-1001")["impression"] is not None
    )
    assert row(OpenI(deid="remove").read(root), "CXR1_1_IM-0001-3001")["impression"] == "Normal chest x-."


def test_what_cannot_be_used_is_named_and_counted(root):
    release = OpenI().read(root)
    assert release.rejected.select("image_id", "path", "reason").rows() == [
        (None, "3999.xml", "bad_report"),
        ("CXR5_IM-0005-2001", "NLMCXR_png/CXR5_IM-0005-2001.png", "missing"),
    ]
    assert release.card.counts["left_out.report_without_image"] == 1
    assert "CXR6" not in release.rows["patient_id"].to_list()


def test_a_caption_tells_the_view_of_a_single_image_only(root):
    views = OpenI().read(root).rows
    assert views.filter(pl.col("view").is_not_null()).select("image_id", "view").rows() == [
        ("CXR8_IM-2333-1001", "AP")
    ]


# --- other places and forms of the same release


def test_the_archive_reads_as_the_folder_does(root, tmp_path):
    with tarfile.open(tmp_path / "NLMCXR_reports.tgz", "w:gz") as archive:
        archive.add(root / "ecgen-radiology", "ecgen-radiology")
    shutil.copytree(root / "NLMCXR_png", tmp_path / "NLMCXR_png")
    release, expected = OpenI().read(tmp_path), OpenI().read(root)
    assert release.rows.equals(expected.rows)
    assert release.rejected.equals(expected.rejected)
    assert release.card.fingerprint == expected.card.fingerprint
    # The table of views too, which may come later.
    assert [Path(path).name for path in release.sources] == ["NLMCXR_reports.tgz", "indiana_projections.csv"]


def test_an_archive_that_breaks_off_is_an_error(root, tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(root / "ecgen-radiology", "ecgen-radiology")
    path = tmp_path / "NLMCXR_reports.tgz"
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    with pytest.raises(DataError, match="load it again"):
        OpenI().read(tmp_path)


def test_dicom_and_kaggle_names_are_found_in_their_folders(root, tmp_path):
    shutil.copytree(root / "ecgen-radiology", tmp_path / "ecgen-radiology")
    for name in ("1/1_IM-0001-3001.dcm", "2/2_IM-0002-1001.dcm", "10/10_IM-0002-0001-0002.dcm"):
        file = tmp_path / "NLMCXR_dcm" / name
        file.parent.mkdir(parents=True)
        file.write_bytes(b"x")
    rows = OpenI().read(tmp_path).rows
    assert dict(rows.select("image_id", "path").rows()) == {
        "CXR1_1_IM-0001-3001": "NLMCXR_dcm/1/1_IM-0001-3001.dcm",
        "CXR2_IM-0002-1001": "NLMCXR_dcm/2/2_IM-0002-1001.dcm",
        "CXR10_IM-0002-0001-0002": "NLMCXR_dcm/10/10_IM-0002-0001-0002.dcm",
    }
    file = tmp_path / "pictures" / "7_IM-0007-1001.dcm.png"
    file.parent.mkdir()
    file.write_bytes(b"x")
    assert OpenI(images="pictures").read(tmp_path).rows["path"].to_list() == [
        "pictures/7_IM-0007-1001.dcm.png"
    ]


def test_projections_tell_views_and_frontal_only_needs_them(root, tmp_path):
    OpenI.fake(tmp_path)
    with pytest.raises(ConfigurationError, match=r"data\.frontal_only needs.*indiana_projections\.csv"):
        OpenI(frontal_only=True).read(root)
    with pytest.raises(DataError, match="table of views"):
        OpenI(projections="gone.csv").read(root)
    (tmp_path / "indiana_projections.csv").write_text(
        "uid,filename,projection\n1,1_IM-0001-3001.dcm.png,Frontal\n1,1_IM-0001-4001.dcm.png,Lateral\n"
    )
    (tmp_path / "headers.csv").write_text(
        "imageid,Rows,View Position\nCXR2_IM-0002-1001,2,PA\nCXR2_IM-0002-2001,2,LL\nCXR3_IM-0003-1001,2,\n"
    )
    release = OpenI().read(tmp_path)
    assert [row(release, f"CXR1_1_IM-0001-{k}001")["view"] for k in (3, 4)] == [None, "LATERAL"]
    release = OpenI(frontal_only=True).read(tmp_path)
    assert release.rows["image_id"].to_list() == ["CXR1_1_IM-0001-3001"]
    assert release.card.counts["left_out.other_view"] == 1
    release = OpenI(projections="headers.csv").read(tmp_path)
    assert [row(release, f"CXR2_IM-0002-{k}001")["view"] for k in (1, 2)] == ["PA", "LATERAL"]
    assert OpenI(projections="headers.csv", frontal_only=True).read(tmp_path).rows["view"].to_list() == ["PA"]


def test_labels_can_come_from_the_text(root):
    release = OpenI(labels="text").read(root)
    image = row(release, "CXR7_IM-0007-1001")
    assert {label: image[label] for label in LABELS if image[label] is not None} == {
        "Cardiomegaly": 1,
        "Edema": 0,
    }
    with pytest.raises(ConfigurationError, match="labels is one of mesh, text"):
        OpenI(labels="mehs")


# --- reports alone


def test_reports_alone_are_enough_for_text_and_prepare_says_what_is_missing(root, tmp_path, caplog):
    release_root = tmp_path / "release"
    shutil.copytree(root / "ecgen-radiology", release_root / "ecgen-radiology")
    (release_root / "ecgen-radiology" / "3999.xml").unlink()  # the one that is cut off
    release, whole = OpenI().read(release_root), OpenI().read(root)
    assert "only the reports are read" in caplog.text
    assert len(release.rows) == len(whole.rows) + 1  # that one file is missing cannot be told
    kept = release.rows.filter(pl.col("image_id") != "CXR5_IM-0005-2001")
    assert fingerprint(kept, release.card) == whole.card.fingerprint
    with pytest.raises(DataError, match=r"missing.*NLMCXR_png/"):
        prepare(OpenI(), release_root, tmp_path / "out")
    with pytest.raises(DataError, match=r"folder of images \(data\.images\)"):
        OpenI(images="NLMCXR_png").read(release_root)


def test_read_reports_has_a_row_for_every_report(root):
    table = OpenI().read_reports(root)
    assert len(table) == 40
    report = table.row(by_predicate=pl.col("report_id") == "CXR6", named=True)
    assert report["images"] == []
    assert report["mesh"] == ["Technical Quality of Image Unsatisfactory"]
    assert report["indication"] == "XXXX-year-old with cough"
    assert report["sentences"][:2] == ["The heart is normal in size.", "The lungs are clear."]
    assert {*table["split"]} == {"train", "validate", "test"}
    with pytest.raises(DataError, match="no reports of OpenI"):
        OpenI().read_reports(root / "NLMCXR_png")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not well-formed"),
        (b"<eCitation><uId id='CXR1'/>", "not well-formed"),
        (b"<eCitation/>", "no uId"),
        (b"<!DOCTYPE x [<!ENTITY a 'aa'>]><eCitation/>", "declares entities"),
        (b"<eCitation>" + b" " * (1 << 20) + b"</eCitation>", "larger than a report"),
    ],
)
def test_a_file_that_is_no_report_is_refused(content, message):
    with pytest.raises(DataError, match=message):
        parse(content)


# --- MeSH


@pytest.mark.parametrize(
    ("headings", "expected"),
    [
        (["normal"], {"No Finding"}),
        (["Opacity/lung/base/left/round"], {"Lung Opacity", "Lung Lesion"}),
        (["Density/lung/lingula"], {"Lung Opacity"}),
        (["Density/ribs/left"], set()),
        (["Cardiac Shadow/enlarged/mild"], {"Cardiomegaly"}),
        (["Cardiac Shadow/obscured"], set()),
        (["Mediastinum/prominent"], {"Enlarged Cardiomediastinum"}),
        (["Mediastinum/lymph nodes/enlarged"], set()),
        (["Cicatrix/pleura/right"], {"Pleural Other"}),
        (["Cicatrix/lung/apex/bilateral"], {"Lung Opacity"}),
        (["Mass/breast/large"], set()),
        (["Hydropneumothorax/left"], {"Pneumothorax", "Pleural Effusion"}),
        (["Pericardial Effusion"], set()),
        (["Pulmonary Congestion/mild"], {"Edema"}),
        (["Markings/lung/interstitial/chronic"], {"Lung Opacity"}),
        (["Markings/bronchovascular"], set()),
        (["Calcified Granuloma/lung/lingula", "Scoliosis"], set()),
        (["Implanted Medical Device/left", "Fractures, Bone/ribs"], {"Support Devices", "Fracture"}),
    ],
)
def test_headings_become_labels(headings, expected):
    assert positive(_openi_mesh.labels_of(headings)) == expected
    assert tuple(_openi_mesh.labels_of(headings)) == LABELS


def test_a_report_that_nobody_coded_has_no_label():
    assert set(_openi_mesh.labels_of(["No Indexing"]).values()) == {None}
    assert set(_openi_mesh.labels_of([]).values()) == {None}


# --- the real reports


@pytest.fixture(scope="module")
def real_root():
    spec = importlib.util.find_spec("torchxrayvision")
    return Path(next(iter(spec.submodule_search_locations))) / "data"


@pytest.fixture(scope="module")
def real(real_root):
    return OpenI().read_reports(real_root)


def test_all_real_reports_are_read(real):
    assert len(real) == NUM_REPORTS == real["report_id"].n_unique()
    assert real["findings"].count() == NUM_FINDINGS
    assert real["impression"].count() == NUM_IMPRESSIONS
    assert real["images"].list.len().sum() == NUM_IMAGES
    assert real["images"].explode().drop_nulls().n_unique() == NUM_IMAGES
    assert (real["images"].list.len() == 0).sum() == 104
    shares = dict(real["split"].value_counts(normalize=True).rows())
    assert shares == pytest.approx({"train": 0.7, "validate": 0.1, "test": 0.2}, abs=0.02)


def test_real_labels_are_the_headings_counted(real):
    """Counts of the headings by hand: normal 1,391, Pneumonia 43 in 42 reports, No Indexing 95."""
    assert real["No Finding"].null_count() == 95
    counts = {label: int((real[label] == 1).sum()) for label in LABELS}
    assert counts["No Finding"] == 1391
    assert counts["Pneumonia"] == 42
    headings = real.select("report_id", "mesh").explode("mesh")
    prefixes = {
        "Cardiomegaly": "Cardiomegaly",
        "Fracture": "Fractures, Bone",
        "Atelectasis": "Pulmonary Atel",
    }
    for label, prefix in prefixes.items():
        reports = headings.filter(pl.col("mesh").str.starts_with(prefix))["report_id"].n_unique()
        assert reports <= counts[label] <= reports + 40


def test_a_view_table_of_real_dicom_headers_names_all_but_one_image(real_root):
    """Its 7,469 rows lack one image and name the two of report 1 by its number alone."""
    release = OpenI(projections="nlmcxr_dicom_metadata.csv").read(real_root)
    assert len(release.rows) == NUM_IMAGES
    views = dict(release.rows["view"].value_counts().rows())
    # Of the file: PA 3,593, AP 423, LATERAL 119, LL 717, RL 29, LARGE LATERAL 2; captions add two AP.
    assert views["PA"] == 3593
    assert views["LATERAL"] == 119 + 717 + 29 + 2
    assert views["AP"] == 423 + 2
    assert release.card.counts["left_out.report_without_image"] == 104


def test_the_text_cache_fills_from_the_real_impressions(real, tmp_path):
    texts = real["impression"].drop_nulls().to_list()
    features = TextCache(tmp_path, HashedText(width=64)).encode(texts)
    assert features.shape == (NUM_IMPRESSIONS, 64)
    again = TextCache(tmp_path, HashedText(width=64))
    again.encoder.encode = None  # all is on disk: the encoder is not asked
    assert torch.equal(again.encode(texts), features)
    stored = pl.read_parquet(list(tmp_path.rglob("*.parquet")))
    assert stored["hash"].n_unique() == len(stored) == len(set(texts))

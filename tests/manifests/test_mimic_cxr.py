"""MIMIC-CXR: every layout, every oddity of the fake release, and the rules of LoVT, MGCA and Adaptor."""

import csv
import gzip
import logging
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from radlearn.data.splits import fraction
from radlearn.errors import ConfigurationError, DataError
from radlearn.manifests import _mimic_fake, _mimic_reports
from radlearn.manifests._mimic_fake import JPG, REPORTS, dicom_id
from radlearn.manifests.mimic_cxr import LABELS, MimicCXR

ARCHIVE = "mimic-cxr-reports.zip"
# The header lines of the published files, written out once more.
HEADERS = {
    "split": "dicom_id,study_id,subject_id,split",
    "metadata": "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,"
    "StudyDate,StudyTime,ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,"
    "PatientOrientationCodeSequence_CodeMeaning",
    "chexpert": "subject_id,study_id,Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,"
    "Fracture,Lung Lesion,Lung Opacity,No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,"
    "Support Devices",
}
HEADERS["negbio"] = HEADERS["chexpert"]
# Studies of the fake release by what is odd about them.
BOTH, IMPRESSION, THREE_VIEWS, FINDINGS, LATERAL = (
    "s50000001",
    "s50000002",
    "s50000003",
    "s50000004",
    "s50000005",
)
NDICATION, NEITHER, SHORT, NO_REPORT, LATIN1 = "s50000006", "s50000007", "s50000008", "s50000010", "s50000012"
CRLF, UNLABELLED, TWO_AP, EMPTY, LOST_FILE = "s50000013", "s50000014", "s50000015", "s50000016", "s50000017"
IRREGULAR, TEST_NEITHER, VALIDATE_NO_REPORT = "s50743547", "s50000023", "s50000021"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The fake release, not to be changed."""
    root = tmp_path_factory.mktemp("mimic")
    MimicCXR.fake(root)
    return root


@pytest.fixture
def own(tmp_path):
    """A fake release to be changed."""
    MimicCXR.fake(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def release(root):
    return MimicCXR(check_files=True).read(root)


def table(root, kind):
    """A table as the standard library reads it."""
    path = root / JPG / f"mimic-cxr-2.0.0-{kind}.csv.gz"
    with gzip.open(path, "rt", newline="") as file:
        return list(csv.DictReader(file))


def rewrite(root, kind, change):
    """Change the text of a table."""
    path = root / JPG / f"mimic-cxr-2.0.0-{kind}.csv.gz"
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()).decode()).encode(), mtime=0))


def row_of(release, study):
    return release.rows.filter(study_id=study).row(0, named=True)


def studies(release):
    return {*release.rows["study_id"]}


def texts(row):
    return [sentence["text"] for sentence in row["sentences"] or []]


# --- tables


@pytest.mark.parametrize("kind", HEADERS)
def test_the_fake_has_the_published_headers_and_another_header_is_refused(own, kind):
    path = own / JPG / f"mimic-cxr-2.0.0-{kind}.csv.gz"
    assert gzip.decompress(path.read_bytes()).decode().splitlines()[0] == HEADERS[kind]
    rewrite(own, kind, lambda text: text.replace("study_id", "StudyInstanceUID", 1))
    with pytest.raises(DataError, match=r"no column 'study_id'.*there is.*is this the release's own file"):
        MimicCXR(labels=kind if kind == "negbio" else "chexpert").read(own)


def test_rows_are_the_frontal_images_that_both_tables_list(release, root):
    split = {row["dicom_id"]: row for row in table(root, "split")}
    metadata = {row["dicom_id"]: row for row in table(root, "metadata")}
    frontal = {
        dicom
        for dicom, row in metadata.items()
        if dicom in split and row["ViewPosition"] in ("PA", "AP") and row["study_id"]
    }
    textless = {IRREGULAR, NEITHER, SHORT, NO_REPORT, EMPTY}
    missing = dicom_id(_mimic_fake.FILE_MISSING, 1)
    wanted = {d for d in frontal - {missing} if f"s{split[d]['study_id']}" not in textless}
    assert {*release.rows["image_id"]} == wanted
    for row in release.rows.iter_rows(named=True):
        listed, described = split[row["image_id"]], metadata[row["image_id"]]
        subject, study = listed["subject_id"], listed["study_id"]
        assert row["split"] == listed["split"]
        assert (row["patient_id"], row["study_id"]) == (f"p{subject}", f"s{study}")
        assert row["path"] == f"files/p{subject[:2]}/p{subject}/s{study}/{row['image_id']}.jpg"
        assert (row["view"], row["height"], row["width"]) == (described["ViewPosition"], 48, 40)


def test_every_row_that_is_not_used_is_counted_by_reason(release):
    assert dict(release.card.counts) == {
        "train": 16, "validate": 3, "test": 5,
        "rejected.duplicate_id": 1, "rejected.missing": 1, "rejected.no_id": 1, "rejected.no_metadata": 1,
        "rejected.no_split": 1, "rejected.unreadable_report": 1,
        "left_out.other_view": 8, "left_out.irregular_report": 1, "left_out.no_report": 1,
        "left_out.no_text": 1, "left_out.short_text": 1,
    }  # fmt: skip
    rejected = dict(release.rejected.select("reason", "image_id").iter_rows())
    assert rejected["duplicate_id"] == dicom_id(_mimic_fake.TWICE, 0)
    assert rejected["missing"] == dicom_id(_mimic_fake.FILE_MISSING, 1)
    assert rejected["unreadable_report"] == dicom_id(int(EMPTY[1:]), 0)


def test_the_order_of_lines_line_ends_and_prefixes_change_nothing(own, release):
    def shuffled(text):
        header, *lines = text.splitlines()
        return "\r\n".join([header, *lines[::-1], ""])

    for kind in HEADERS:
        rewrite(own, kind, shuffled)
    rewrite(own, "split", lambda text: text.replace(",5", ",s5").replace(",1", ",p1"))
    again = MimicCXR(check_files=True).read(own)
    assert again.card.fingerprint == release.card.fingerprint
    assert again.card.split_hash == release.card.split_hash


def test_an_image_in_two_splits_is_a_leak(own):
    line = ",".join(table(own, "split")[0][name] for name in ("dicom_id", "study_id", "subject_id"))
    rewrite(own, "split", lambda text: text + f"{line},test\n")
    with pytest.raises(DataError, match="1 of 15 patients lie in several splits"):
        MimicCXR().read(own)


def test_an_undefined_split_or_label_names_its_value(own):
    rewrite(own, "split", lambda text: text.replace(",validate\n", ",dev\n"))
    with pytest.raises(DataError, match="'dev'"):
        MimicCXR().read(own)
    rewrite(own, "split", lambda text: text.replace(",dev\n", ",validate\n"))
    rewrite(own, "chexpert", lambda text: text.replace("-1.0", "-2.0", 1))
    with pytest.raises(DataError, match=r"chexpert.*-2\.0.*labels are 1, 0, -1"):
        MimicCXR().read(own)


def test_other_views_are_a_setting(root):
    raw = Counter(row["ViewPosition"] for row in table(root, "metadata"))
    every = MimicCXR(views=(), irregular="keep", require_text="none").read(root)
    assert every.card.counts.get("left_out.other_view") is None
    views = Counter(every.rows["view"])
    assert views["LATERAL"] == raw["LATERAL"] + raw["LL"]
    assert views[None] == raw[""] + raw["AP AXIAL"]
    assert {*MimicCXR(views=["lateral"]).read(root).rows["view"]} == {"LATERAL"}
    assert MimicCXR(views=["AP AXIAL"]).read(root).rows["study_id"].to_list() == [CRLF]


# --- splits, units and subsets


def test_the_official_split_and_mgca_s(root, release):
    assert release.card.split == "official"
    assert "mimic-cxr-2.0.0-split.csv" in release.card.split_rule
    merged = MimicCXR(split="mgca", check_files=True).read(root)
    assert merged.card.counts["validate"] == release.card.counts["validate"] + release.card.counts["test"]
    assert (merged.card.counts["test"], merged.card.split) == (0, "mgca")
    assert merged.card.split_hash != release.card.split_hash


def test_a_study_is_one_row_of_its_pa_image_or_the_lowest_id(root):
    found = MimicCXR(unit="study").read(root)
    assert found.rows["study_id"].is_unique().all()
    assert found.card.counts["left_out.other_image_of_study"] == 5
    assert row_of(found, THREE_VIEWS)["view"] == "PA"
    assert row_of(found, TWO_AP)["image_id"] == min(dicom_id(int(TWO_AP[1:]), k) for k in (0, 1))
    assert row_of(MimicCXR(unit="study", views=("AP", "PA")).read(root), THREE_VIEWS)["view"] == "AP"
    every = MimicCXR(unit="study", views=(), require_text="none").read(root)
    assert row_of(every, BOTH)["view"] == "PA"
    assert row_of(every, LATERAL)["view"] == "LATERAL"


@pytest.mark.parametrize(("unit", "kept"), [("image", 5), ("study", 4)])
def test_the_first_30_percent_are_those_of_lovt(root, unit, kept):
    every = MimicCXR(unit=unit).read(root)
    found = MimicCXR(unit=unit, subset="first_30").read(root)
    train = every.rows.filter(split="train")
    # 17 images (the file that is missing is not looked for here), 14 studies
    assert round(0.3 * len(train)) == kept
    in_order = sorted(train["study_id"], key=lambda study: (row_of(every, study)["patient_id"], study))
    assert sorted(found.rows.filter(split="train")["study_id"]) == sorted(in_order[:kept])
    for split in ("validate", "test"):
        assert found.card.counts[split] == every.card.counts[split]
    assert found.card.counts["left_out.not_in_subset"] == len(train) - kept
    assert "first 30 %" in found.card.split_rule


def test_the_first_30_percent_of_the_studies_are_whole_studies(root):
    every = MimicCXR().read(root).rows.filter(split="train")
    found = MimicCXR(subset="first_30_studies").read(root).rows.filter(split="train")
    kept = MimicCXR(unit="study", subset="first_30").read(root).rows.filter(split="train")
    # The same studies as with one row a study, each with all its images.
    assert {*found["study_id"]} == {*kept["study_id"]}
    assert found.equals(every.filter(pl.col("study_id").is_in(kept["study_id"].implode())))


def test_the_seeded_subset_holds_30_percent_of_the_patients(root):
    every, found = MimicCXR().read(root), MimicCXR(subset="seeded_30", subset_seed=3).read(root)
    train, chosen = (r.rows.filter(split="train") for r in (every, found))
    patients = {*chosen["patient_id"]}
    assert len(patients) == round(0.3 * train["patient_id"].n_unique())
    assert patients == {*fraction(train, 30, 3)["patient_id"]}
    assert chosen.equals(train.filter(pl.col("patient_id").is_in(patients)))
    assert found.rows.filter(pl.col("split") != "train").equals(every.rows.filter(pl.col("split") != "train"))
    assert "seed 3" in found.card.split_rule
    again = MimicCXR(subset="seeded_30", subset_seed=3, labels="negbio", uncertain="ones").read(root)
    assert again.card.split_hash == found.card.split_hash
    assert any(
        MimicCXR(subset="seeded_30", subset_seed=seed).read(root).card.split_hash != found.card.split_hash
        for seed in range(3)
    )


# --- labels


def test_labels_are_those_of_the_table_with_uncertain_and_blank_kept(release, root):
    cells = {row["study_id"].removeprefix("s"): row for row in table(root, "chexpert")}
    for row in release.rows.iter_rows(named=True):
        for name in LABELS:
            cell = cells.get(row["study_id"][1:], {}).get(name, "")
            assert row[name] == (float(cell) if cell else None)
    assert UNLABELLED in studies(release)
    assert release.card.label_names == LABELS
    assert {*MimicCXR().macro_labels()["macro_competition5"]} < {*LABELS}


def test_policies_and_the_other_labeller(root, release):
    nova = MimicCXR(uncertain="zeros", blank="zeros").read(root)
    assert {*nova.rows["Edema"]} == {0.0, 1.0}
    assert nova.rows["Edema"].sum() == (MimicCXR().read(root).rows["Edema"] == 1).sum()
    soft = MimicCXR(uncertain="soft").read(root)
    assert {*soft.rows["Edema"]} == {0.0, 0.5, 1.0, None}
    negbio = {row["study_id"].removeprefix("s"): row for row in table(root, "negbio")}
    found = MimicCXR(labels="negbio", check_files=True).read(root)
    cell = negbio[BOTH[1:]]["Edema"]
    assert row_of(found, BOTH)["Edema"] == (float(cell) if cell else None)
    assert found.card.fingerprint != release.card.fingerprint


# --- text


def test_findings_and_impression_are_cut_and_sentences_follow_lovt_s_order(release):
    row = row_of(release, BOTH)
    assert row["impression"] == "No acute cardiopulmonary process."
    assert row["findings"] == "The lungs are clear. There is no pleural effusion or pneumothorax."
    assert texts(row) == [
        "The lungs are clear.",
        "There is no pleural effusion or pneumothorax.",
        "No acute cardiopulmonary process.",
    ]
    assert all(sentence["boxes"] == [] for sentence in row["sentences"])
    assert row["report"].startswith(" " * 33 + "FINAL REPORT\n EXAMINATION:")
    assert row_of(release, IMPRESSION)["findings"] is None
    assert row_of(release, FINDINGS)["impression"] is None


def test_line_ends_and_latin_1_are_read(release, caplog, root):
    assert "\r" not in row_of(release, CRLF)["report"]
    assert row_of(release, CRLF)["impression"] == "1. Mild pulmonary edema. 2. Small left pleural effusion."
    assert row_of(release, LATIN1)["impression"] == "Heart size normal; rotation of 5° to the left."
    with caplog.at_level(logging.INFO, logger="radlearn"):
        MimicCXR().read(root)
    assert "1 reports are not UTF-8: read as Latin-1" in caplog.text
    assert "3 of 24 studies have no readable report" in caplog.text
    assert not any(word in caplog.text for word in ("50000012", "s5000", "p1000", "Heart size"))


def test_studies_without_text_leave_the_training_set_or_all_of_them(root, release):
    # Scored by their labels, studies of the other splits need no report.
    assert row_of(release, TEST_NEITHER)["sentences"] is None
    assert row_of(release, VALIDATE_NO_REPORT)["report"] is None
    everywhere = MimicCXR(require_text="all").read(root)
    assert studies(MimicCXR().read(root)) - studies(everywhere) == {TEST_NEITHER, VALIDATE_NO_REPORT}
    kept = MimicCXR(require_text="none").read(root)
    assert {NEITHER, SHORT, NO_REPORT} <= studies(kept)


def test_the_54_irregular_studies(root):
    assert IRREGULAR not in studies(MimicCXR().read(root))
    # The public rule takes the whole of EXAMINATION.
    text = "Portable chest: no acute process in the chest."
    for sections in ("corrected", "public"):
        chosen = MimicCXR(irregular="override", sections=sections).read(root)
        assert row_of(chosen, IRREGULAR)["impression"] == text
        assert row_of(chosen, IRREGULAR)["findings"] is None
    kept = MimicCXR(irregular="keep", require_text="none").read(root)
    assert row_of(kept, IRREGULAR)["impression"] is None


def test_public_rules_call_ndication_an_impression(root, release):
    public = MimicCXR(sections="public").read(root)
    assert row_of(public, NDICATION)["impression"] == "___M with fever and cough."
    assert row_of(release, NDICATION)["impression"] is None
    # With its line breaks, as in the published csv.
    assert (
        row_of(public, CRLF)["impression"] == "1.  Mild pulmonary edema.\n 2.  Small left pleural effusion."
    )
    assert texts(row_of(public, CRLF))[2:] == texts(row_of(release, CRLF))[2:]


@pytest.mark.parametrize("sections", ["corrected", "public"])
def test_a_missing_impression_can_be_filled(root, sections):
    filled = MimicCXR(impression_fallback="findings", sections=sections).read(root)
    row = row_of(filled, FINDINGS)
    assert row["impression"] == row["findings"] is not None


def test_the_caption_of_mgca_is_impression_then_findings_in_tokens(root):
    caption = MimicCXR(sentences="caption").read(root)
    assert texts(row_of(caption, CRLF)) == [
        "mild pulmonary edema",
        "small left pleural effusion",
        "the lungs are clear",
        "there is no pleural effusion or pneumothorax",
    ]
    assert SHORT not in studies(caption)


# --- layouts


def physionet(root, jpg="2.0.0", reports="2.0.0"):
    base = root / "physionet.org" / "files"
    (base / "mimic-cxr-jpg").mkdir(parents=True)
    (base / "mimic-cxr").mkdir()
    shutil.move(root / JPG, base / "mimic-cxr-jpg" / jpg)
    shutil.move(root / REPORTS, base / "mimic-cxr" / reports)
    return {}


def newer_physionet(root):
    return physionet(root, "2.1.0", "2.1.0")


def inside_physionet(root):
    physionet(root)
    shutil.move(root / "physionet.org" / "files", root / "files")
    return {}


def plain_csv(root):
    for path in (root / JPG).glob("*.csv.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    return {}


def own_root(root):
    for path in [*(root / JPG).iterdir(), root / REPORTS / ARCHIVE]:
        shutil.move(path, root / path.name)
    return {}


def tree_beside_the_images(root):
    own_root(root)
    unpack(root / ARCHIVE, root)
    return {}


def tree_of_its_own(root):
    unpack(root / REPORTS / ARCHIVE, root / REPORTS)
    return {}


def tree_elsewhere(root):
    unpack(root / REPORTS / ARCHIVE, root.parent / f"{root.name}-reports")
    return {"reports": f"../{root.name}-reports"}


def tree_named_by_its_files(root):
    unpack(root / REPORTS / ARCHIVE, root / "txt")
    return {"reports": str(root / "txt" / "files")}


def archive_elsewhere(root):
    shutil.move(root / REPORTS / ARCHIVE, root / "texts.zip")
    return {"reports": "texts.zip"}


def archive_without_files_folder(root):
    path = root / REPORTS / ARCHIVE
    with zipfile.ZipFile(path) as old:
        members = {name.removeprefix("files/"): old.read(name) for name in old.namelist()[1:]}
    with zipfile.ZipFile(path, "w") as new:
        for name, data in members.items():
            new.writestr(name, data)
    return {}


def unpack(archive, folder):
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)
    archive.unlink()


@pytest.mark.parametrize(
    "layout",
    [
        physionet, newer_physionet, inside_physionet, plain_csv, own_root, tree_beside_the_images,
        tree_of_its_own, tree_elsewhere, tree_named_by_its_files, archive_elsewhere,
        archive_without_files_folder,
    ],
)  # fmt: skip
def test_every_layout_gives_the_same_rows(own, release, layout):
    settings = layout(own)
    found = MimicCXR(check_files=True, **settings).read(own)
    assert found.rows.equals(release.rows)
    assert found.rejected.equals(release.rejected)
    assert found.card.release == ("2.1.0" if layout is newer_physionet else "2.0.0")


def write_sectioned(root, name="mimic_cxr_sectioned.csv"):
    """The csv that the public parser would write, by hand: without the irregular study."""
    full = MimicCXR(views=(), sections="public", require_text="none").read(root)
    lines = full.rows.unique("study_id").select(
        study="study_id", impression="impression", findings="findings",
        last_paragraph=pl.lit(""), comparison=pl.lit(""),
    )  # fmt: skip
    (root / REPORTS / ARCHIVE).unlink()
    lines.filter(pl.col("impression").is_not_null() | pl.col("findings").is_not_null()).write_csv(root / name)


def test_a_sectioned_csv_stands_in_for_the_reports(own):
    public = MimicCXR(sections="public").read(own)
    corrected = MimicCXR().read(own)
    write_sectioned(own)
    found = MimicCXR(sections="public").read(own)
    assert "report" not in found.rows.columns
    assert found.rows.equals(public.rows.drop("report"))
    cleaned = MimicCXR(reports="mimic_cxr_sectioned.csv").read(own).rows
    # Where the rules agree (not "NDICATION"), cleaning gives the corrected text.
    regular = pl.col("study_id") != NDICATION
    assert cleaned.filter(regular).equals(corrected.rows.drop("report").filter(regular))
    with pytest.raises(ConfigurationError, match="override needs whole reports"):
        MimicCXR(irregular="override").read(own)


def test_two_releases_side_by_side_give_the_newer(own):
    physionet(own)
    folder = own / "physionet.org/files/mimic-cxr-jpg"
    shutil.copytree(folder / "2.0.0", folder / "2.1.0")
    assert MimicCXR().read(own).root == str(folder / "2.1.0")
    reports = str(own / "physionet.org/files/mimic-cxr/2.0.0")
    assert MimicCXR(reports=reports).read(folder / "2.0.0").card.release == "2.0.0"


def test_2_1_0_in_a_folder_of_any_name_is_known_by_its_test_labels(own):
    own_root(own)
    (own / "mimic-cxr-2.1.0-test-set-labeled.csv").write_text("study_id,Cardiomegaly\n")
    assert MimicCXR().read(own).card.release == "2.1.0"


# --- reports that cannot be had


def test_without_reports_there_are_labels_and_no_text(own):
    (own / REPORTS / ARCHIVE).unlink()
    found = MimicCXR(reports="none").read(own)
    assert not {"report", "findings", "impression", "sentences"} & {*found.rows.columns}
    assert IRREGULAR in studies(found)
    with pytest.raises(DataError, match=r"no mimic-cxr-reports\.zip.*data\.reports=none"):
        MimicCXR().read(own)
    with pytest.raises(DataError, match=r"data\.reports=gone\.zip: neither in"):
        MimicCXR(reports="gone.zip").read(own)
    with pytest.raises(DataError, match=r"data\.reports=.* holds no mimic-cxr-reports\.zip"):
        MimicCXR(reports=REPORTS).read(own)


def test_an_archive_of_other_studies_is_refused(own):
    with zipfile.ZipFile(own / REPORTS / ARCHIVE, "w") as archive:
        archive.writestr("files/p10/p10000001/s50000001.txt", " IMPRESSION: Normal chest.")
    with pytest.raises(DataError, match="holds reports of 1 of 24 studies"):
        MimicCXR().read(own)
    (own / REPORTS / ARCHIVE).write_bytes(b"no zip")
    with pytest.raises(DataError, match="cannot be read as a zip file"):
        MimicCXR().read(own)


def test_a_damaged_report_is_rejected_and_the_others_are_read(own):
    path = own / REPORTS / ARCHIVE
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
        for name, data in members.items():
            new.writestr(name, data)
    path.write_bytes(path.read_bytes().replace(b"rotation of 5", b"rotation of 6"))
    found = MimicCXR().read(own)
    assert LATIN1 not in studies(found)
    assert found.card.counts["rejected.unreadable_report"] == 2


def test_processes_give_the_same_release_and_progress_is_told(root, monkeypatch):
    monkeypatch.setattr(_mimic_reports, "_CHUNK", 5)
    seen = []
    one = MimicCXR(num_workers=1).read(root, lambda *told: seen.append(told))
    assert seen == [(min(k, 24), 24, "reports") for k in (5, 10, 15, 20, 25)]
    two = MimicCXR(num_workers=2).read(root)
    assert two.rows.equals(one.rows)
    assert two.card == one.card


def test_sources_are_the_tables_and_the_archive_or_the_folders_of_patients(own):
    names = [f"mimic-cxr-2.0.0-{kind}.csv.gz" for kind in ("split", "metadata", "chexpert")]
    sources = MimicCXR().read(own).sources
    assert [*sources] == [*(str(own / JPG / name) for name in names), str(own / REPORTS / ARCHIVE)]
    tree_of_its_own(own)
    of_tree = MimicCXR().read(own).sources
    assert of_tree[:3] == sources[:3]
    assert [Path(path).name for path in of_tree[3:]] == [f"p{number}" for number in range(10, 20)]


@pytest.mark.parametrize(
    "settings",
    [
        {"split": "lovt"}, {"unit": "patient"}, {"subset": "30"}, {"labels": "radiologist"},
        {"uncertain": "zero"}, {"blank": "ones"}, {"sections": "Public"},
        {"impression_fallback": "report"}, {"irregular": "skip"}, {"sentences": "stanza"},
        {"require_text": "test"}, {"num_workers": -1},
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused_at_once(settings):
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        MimicCXR(**settings)


def test_the_card_names_licence_access_and_patients(release):
    card = release.card
    assert (card.name, card.access, card.patient_namespace) == ("mimic_cxr", "credentialed", "mimic")
    assert "1.5.0" in card.licence
    assert "Johnson" in card.citation

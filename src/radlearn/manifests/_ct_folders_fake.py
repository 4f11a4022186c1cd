"""The miniature folders of `CTFolders`: DICOM series as an archive hands them out, invented patients."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from radlearn.data._dicom_file import import_pydicom
from radlearn.manifests._ct_fake import ct_slice
from radlearn.manifests._dicom_fake import UID_ROOT

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
_CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
_NUM_PATIENTS, _NUM_SLICES, _SIDE = 20, 4, 48
_PAPER = "1.2.840.10008.1.3.10"  # identifier of a DICOMDIR


@dataclass(frozen=True)
class CTSlice:
    """What the header of one invented slice says.

    Attributes:
        series: identifier of the series; the study's is its beginning.
        position: mm from the origin to the head; None writes neither position nor orientation.
        number: InstanceNumber; None writes none.
        stores_units: whether the pixels hold Hounsfield units although a rescale is stated.
    """

    series: str
    position: float | None
    number: int | None
    orientation: tuple[float, ...] = AXIAL
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "AXIAL")
    modality: str = "CT"
    sop_uid: str = ""
    stores_units: bool = False
    spacing: tuple[float, float] = (0.8, 0.7)


def write_slice(path: Path, units: np.ndarray, one: CTSlice) -> None:
    """Write (H, W) int16 Hounsfield units as an uncompressed CT slice: 16 bits, intercept -1024."""
    pydicom = import_pydicom()
    header = pydicom.dataset.FileMetaDataset()
    header.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    header.MediaStorageSOPInstanceUID = one.sop_uid or uid(str(path.name), one.series)
    header.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset = pydicom.Dataset()
    dataset.file_meta = header
    dataset.SOPClassUID = header.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = header.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = one.series.rpartition(".")[0], one.series
    dataset.Modality, dataset.PatientID, dataset.ImageType = one.modality, "ANONYMOUS", list(one.image_type)
    if one.number is not None:
        dataset.InstanceNumber = one.number
    if one.position is not None:
        dataset.ImagePositionPatient = [-170.0, -160.0, one.position]
        dataset.ImageOrientationPatient = list(one.orientation)
    dataset.PixelSpacing, dataset.SliceThickness = list(one.spacing), 5.0
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = units.shape
    stored = units if one.stores_units else (units.astype(np.int32) + 1024).astype(np.uint16)
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = int(stored.dtype == np.int16)
    dataset.PixelData = stored.astype("<i2" if one.stores_units else "<u2").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def uid(*parts: object) -> str:
    """An identifier from a text."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return f"{UID_ROOT}.{int.from_bytes(digest[:8], 'big')}"


def write_dicom(root: Path) -> None:
    """Write `pat-01/ct/*` ... with lesions.csv and studies.csv below `root`."""
    rows: list[dict[str, Any]] = []
    for patient in range(1, _NUM_PATIENTS + 1):
        names = _write_series(root, patient)
        rows += _lesions(patient, names)
    rows.append({"image": "pat-99/ct/gone.dcm", "lesion_present": 0})
    header = ("image", "lesion_present", "x_min", "y_min", "x_max", "y_max", "split")
    _write_csv(root / "lesions.csv", header, rows)
    labels = [
        {
            # Half are named by the study, half by the patient.
            "image": _study(patient) if patient % 2 else f"pat-{patient:02d}",
            "metastasis": patient % 3 // 2,
            "late stage": "" if patient == 5 else int(patient % 4 > 1),
            "all": f"{patient % 3 // 2}{patient % 4 > 1:d}",
        }
        for patient in range(1, _NUM_PATIENTS)
    ]
    _write_csv(root / "studies.csv", tuple(labels[0]), labels)
    (root / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM" + _PAPER.encode())
    (root / "pat-01" / "ct" / "._IM0001.dcm").write_bytes(b"\0\x05\x16\x07")


def _study(patient: int) -> str:
    return uid("study", patient)


def _write_series(root: Path, patient: int) -> list[str]:
    """One patient's series; returns the paths of its slices from head to feet."""
    folder = root / f"pat-{patient:02d}" / "ct"
    series = f"{_study(patient)}.1"
    names = []
    for index in range(_NUM_SLICES):
        # Shuffled names: position tells the order.
        name = uid("name", patient, index)[-6:] + (".dcm" if patient % 4 else "")
        one = CTSlice(
            series=series,
            position=None if patient == 4 else 100.0 - 5 * index,
            # Patient 3's are numbered from the feet.
            number=_NUM_SLICES - index if patient == 3 else index + 1,
            stores_units=patient == 6 and index == 1,
        )
        lesion = (14, 20, 9, 8) if patient % 2 and index == 1 else None
        units = ct_slice(_SIDE, _SIDE, seed=100 * patient + index, lesion=lesion)
        write_slice(folder / name, units, one)
        names.append(f"pat-{patient:02d}/ct/{name}")
        if patient == 2 and index == 0:
            again = CTSlice(series, 100.0, 1, sop_uid=uid(name, series))
            write_slice(folder / "copy-of-the-first.dcm", units, again)
    if patient == 1:
        _write_others(folder, series)
    return names


def _write_others(folder: Path, series: str) -> None:
    """What lies among the slices of a real archive and is none."""
    units = ct_slice(_SIDE, _SIDE, seed=1)
    scout = CTSlice(f"{series}.2", 0.0, 1, _CORONAL, ("ORIGINAL", "PRIMARY", "LOCALIZER"))
    write_slice(folder / "scout.dcm", units, scout)
    write_slice(folder / "coronal.dcm", units, CTSlice(f"{series}.3", 0.0, 1, _CORONAL))
    write_slice(folder / "chest.dcm", units, CTSlice(f"{series}.4", None, 1, modality="DX"))


def _lesions(patient: int, names: list[str]) -> list[dict[str, Any]]:
    corners = dict(zip(("x_min", "y_min", "x_max", "y_max"), (14, 20, 23, 28), strict=True))
    split = "train" if patient <= 12 else "val" if patient <= 15 else "Test"
    rows: list[dict[str, Any]] = [{"image": names[0], "lesion_present": 0, "split": split}]
    if patient % 2:
        rows.append({"image": names[1], "lesion_present": 1, **corners})
    if patient == 1:
        rows.append({"image": names[1], "lesion_present": 1, **corners, "x_min": 30, "x_max": 36})
        rows.append({"image": names[2], "lesion_present": 1})
    if patient == 3:  # padded over the border by less than a pixel
        rows.append({"image": names[2], "lesion_present": 1, **corners, "x_min": -0.5})
    if patient == 8:
        rows += [{"image": names[3], "lesion_present": present} for present in (1, 0)]
    return rows


def _write_csv(path: Path, header: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        writer.writerows(rows)

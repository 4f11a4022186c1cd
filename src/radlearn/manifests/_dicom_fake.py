"""Small DICOM radiographs of fake releases: JPEG baseline, 8 bits, as Kaggle hands out RSNA and SIIM."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from radlearn.data._dicom_file import import_pydicom

# Root under which anyone may make identifiers from a number (ISO/IEC 9834-8).
UID_ROOT = "2.25"


def radiograph(seed: int, side: int) -> np.ndarray:
    """Something of soft shades, (side, side) uint8: two dark fields on a brighter ground."""
    generator = np.random.Generator(np.random.PCG64(seed))
    coarse = generator.normal(0, 14, (16, 16)) + 150
    coarse[3:13, 2:7] -= 90
    coarse[3:13, 9:14] -= 90
    smooth = cv2.resize(coarse.astype(np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.clip(smooth, 0, 255), np.uint8)


def write(
    path: Path,
    pixels: np.ndarray,
    *,
    sop_uid: str,
    patient_id: str = "",
    view: str = "",
) -> None:
    """Write (H, W) uint8 as a radiograph.

    Args:
        path: the file; its folder is made.
        pixels: the image.
        sop_uid: identifier of the image; its study and series are derived from it.
        patient_id, view: tags PatientID and ViewPosition.
    """
    pydicom = import_pydicom()
    height, width = pixels.shape
    header = pydicom.dataset.FileMetaDataset()
    header.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    header.MediaStorageSOPInstanceUID = sop_uid
    header.TransferSyntaxUID = pydicom.uid.JPEGBaseline8Bit
    dataset = pydicom.Dataset()
    dataset.file_meta = header
    dataset.SOPClassUID, dataset.SOPInstanceUID = header.MediaStorageSOPClassUID, sop_uid
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"{sop_uid}.1", f"{sop_uid}.1.1"
    dataset.Modality, dataset.PatientID, dataset.ViewPosition = "CR", patient_id, view
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = height, width
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.LossyImageCompression = "01"
    jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels[..., None]), 80, "GRAY")
    dataset.PixelData = pydicom.encaps.encapsulate([jpeg])
    dataset["PixelData"].is_undefined_length = True
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)

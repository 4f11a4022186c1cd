"""Compressed DICOM files to stored pixels, in images per CPU-second of one thread.

    python benchmarks/dicom.py [--rounds 7 --seconds 0.15]

The baseline is pydicom with the gdcm plug-in; both read the file and decode its pixels. Outputs are compared
first, bit by bit. `grey` is the whole way to `read_image`: decode, window, inversion.

Files: the real ones inside pydicom-data (CT, nuclear medicine, ultrasound, chest radiograph); and radiographs
of benchmarks/store.py: 2500 x 3050 pixels of 12 bits as JPEG lossless, 1024 x 1024 of 8 bits as JPEG baseline
(the form of the RSNA pneumonia files). Everything is read from a warm page cache.
"""

import argparse
import importlib.util
import io
import tempfile
import time
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pydicom
import simplejpeg
from measure import header, interleaved
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.uid import JPEGBaseline8Bit, JPEGLosslessSV1
from store import radiograph

from radlearn.data.dicom import read_stored
from radlearn.data.images import read_image

GDCM, OURS, GREY = "pydicom + gdcm", "radlearn", "radlearn, to grey"
REAL = {
    "JPEG lossless, CT 12 bit": "bad_sequence.dcm",
    "JPEG lossless, NM 16 bit": "JPEG-LL.dcm",
    "JPEG lossless, US 8 bit": "JPGLosslessP14SV1_1s_1f_8b.dcm",
    "JPEG 2000, chest 15 bit": "RG1_J2KR.dcm",
    "JPEG 2000 lossy, chest": "RG1_J2KI.dcm",
}


def write(path, frame, shape, syntax, bits):
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.Rows, dataset.Columns = shape
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 if bits == 8 else 16, bits, bits - 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path, enforce_file_format=False, implicit_vr=False, little_endian=True)


def files(folder):
    data = Path(importlib.util.find_spec("data_store").submodule_search_locations[0]) / "data"
    found = {name: data / file for name, file in REAL.items()}
    noise = np.random.default_rng(0).integers(0, 16, (3050, 2500), dtype=np.uint16)
    twelve = radiograph(0).astype(np.uint16) * 16 + noise
    name = "JPEG lossless, 2500 x 3050 12 bit"
    found[name] = folder / "lossless.dcm"
    write(found[name], imagecodecs.ljpeg_encode(twelve, bitspersample=12), twelve.shape, JPEGLosslessSV1, 12)
    eight = radiograph(0, 1024, 1024)
    name = "JPEG baseline, 1024 x 1024 8 bit"
    found[name] = folder / "baseline.dcm"
    frame = simplejpeg.encode_jpeg(eight[..., None], 90, "GRAY")
    write(found[name], frame, eight.shape, JPEGBaseline8Bit, 8)
    return found


def with_gdcm(path):
    dataset = pydicom.dcmread(io.BytesIO(path.read_bytes()), force=True)
    decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
    return decoder.as_array(dataset, index=0, decoding_plugin="gdcm")[0]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.15, help="of the baseline in each round")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    print(header(1))
    print(f"pydicom {pydicom.__version__}, imagecodecs {imagecodecs.__version__}")
    print("images per CPU-second: median [lowest, highest round]; ratio: median of the ratios within a round")
    with tempfile.TemporaryDirectory() as folder:
        for name, path in files(Path(folder)).items():
            start = time.process_time()
            assert np.array_equal(with_gdcm(path), read_stored(path)), f"{name}: the pixels differ"
            repeats = max(1, round(arguments.seconds / (time.process_time() - start)))
            readers = {GDCM: with_gdcm, OURS: read_stored, GREY: read_image}
            forms = {
                form: lambda read=read, path=path, n=repeats: [read(path) for _ in range(n)]
                for form, read in readers.items()
            }
            timings = interleaved(forms, arguments.rounds)
            print(f"\n{name}, equal bit by bit")
            for form, timing in timings.items():
                low, high = (1e3 * repeats / value for value in (max(timing.rounds), min(timing.rounds)))
                speed = f"{1e3 * repeats / timing.median:9.1f} [{low:.1f}, {high:.1f}] images/s"
                print(f"  {form:20s}{speed:42s}{timing.times_faster_than(timings[GDCM]):7.2f}x")


if __name__ == "__main__":
    main()

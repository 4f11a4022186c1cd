"""COVID rural: opacities outlined on 221 radiographs of COVID-19-AR, rural patients with COVID-19.

    covid_rural_annot/jpgs/COVID-19-AR-16406488_01-08-2012-XR.jpg          patient, then a shifted date
    covid_rural_annot/pngs_masks/COVID-19-AR-16406488_01-08-2012-XR.png    0, and 1 where there is opacity

Outlines also lie beside the images as JSON, reports and clinical data as tables; only the masks are read.
The release has no image labels. LoVT took the mean of the colour channels, here colour becomes luma: the same
for the grey files of the release.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from radlearn import run_lengths
from radlearn.data import published_splits
from radlearn.data.images import ImageError, image_size, read_image
from radlearn.data.splits import SplitRule
from radlearn.errors import DataError
from radlearn.manifests import _dicom_fake
from radlearn.manifests._each_file import each_file
from radlearn.manifests._faults import set_aside
from radlearn.manifests._mask_column import mask_column
from radlearn.manifests._release import check_choice, need
from radlearn.manifests.base import Manifest
from radlearn.manifests.checks import REQUIRED_TYPES, finish
from radlearn.records import Card, Pixels, Release

MASK_CLASS = "opacity"
_FOLDERS = (
    "covid_rural_annot/jpgs",
    "opacity_segmentation_covid_chest_X_ray-master/covid_rural_annot/jpgs",
    "opacity_segmentation_covid_chest_X_ray/covid_rural_annot/jpgs",
    "jpgs",
)
_MASKS = "pngs_masks"
_PATTERN = "COVID-19-AR-*.jpg"


class CovidRural(Manifest):
    """Masks of class `opacity`; no labels: every patient has COVID-19.

    Args:
        split: `lovt`, the only one.
        equalize: equalise each image's histogram, as LoVT prepared this data set.
    """

    card: ClassVar[Card] = Card(
        name="covid_rural",
        source=(
            "https://github.com/haimingt/opacity_segmentation_covid_chest_X_ray; images: "
            "https://doi.org/10.7937/tcia.2020.py71-5978"
        ),
        licence="images: CC BY 4.0 (The Cancer Imaging Archive); outlines: no licence stated",
        access="open",
        release="2020",
        citation=(
            "Tang et al. 2020, doi:10.1101/2020.10.19.20215483; images: Desai et al. 2020, "
            "doi:10.1038/s41597-020-00741-6"
        ),
    )
    splits: ClassVar[Mapping[str, SplitRule]] = {
        "lovt": SplitRule(
            "LoVT's rule: patients at random fill test, then validation, to 20 % of the images each; its own "
            "draw is in its lists",
            seed=0,
        ),
    }

    def __init__(self, *, split: str = "lovt", equalize: bool = False) -> None:
        self.split = check_choice("split", split, tuple(self.splits))
        self.equalize = equalize

    def read(self, root: Path, progress: Any = None) -> Release:
        """Find the images, read their sizes and their masks.

        Args:
            root: folder of the release, or of the repository that holds it.
            progress: optional callable (done, total, what), called while masks are read.

        Raises:
            DataError: if there is no folder of images, or no image in it.
        """
        root = Path(root)
        folder = need(root, *_FOLDERS, what="folder of radiographs")
        paths = sorted(folder.glob(_PATTERN)) if folder.is_dir() else []
        if not paths:
            raise DataError(f"no {_PATTERN} in {folder}: is data.root ({root}) the folder of the release?")
        outlined = [path for path in paths if _mask_of(path).exists()]
        told = each_file(_size_and_mask, outlined, progress, "masks")
        rows, rejected = _table(outlined, told, root)
        rule = self.splits[self.split]
        parts = published_splits.lovt_by_group(
            rows["image_id"].to_list(), rows["patient_id"].to_list(), 0.2, rule.seed or 0
        )
        card = dataclasses.replace(
            self.card, split=self.split, split_seed=rule.seed, split_unit=rule.unit, split_rule=rule.about
        )
        return finish(
            rows.with_columns(published_splits.column(rows["image_id"], parts)),
            [rejected],
            card,
            root,
            left_out={"no_mask": len(paths) - len(outlined)},
            pixels=Pixels(equalize=self.equalize),
            # The folders too: their time changes where a file comes or goes.
            sources=[folder, folder.parent / _MASKS, *outlined, *map(_mask_of, outlined)],
        )

    @classmethod
    def fake(cls, root: Path) -> CovidRural:
        """Write a miniature of the release.

        Its oddities:
        - masks hold 0 and 1, which a viewer shows as black
        - an image without a mask
        - a mask that is empty, and one whose size is not its image's
        - several images of a patient, told by the name alone
        - JSON outlines between the images, and an image of another collection
        - images of different sizes, one of them stored in colour
        """
        import cv2

        folder = root / _FOLDERS[0]
        outlines = folder.parent / _MASKS
        folder.mkdir(parents=True)
        outlines.mkdir()
        for number in range(22):
            name = f"COVID-19-AR-{16406488 + number // 2 * 3}_01-{number + 1:02d}-2012-XR"
            picture = _dicom_fake.radiograph(number, 64)[: 48 + 8 * (number % 3)]
            coloured = np.repeat(picture[..., None], 3, axis=2) if number == 4 else picture
            cv2.imwrite(str(folder / f"{name}.jpg"), coloured)
            (folder / f"{name}.json").write_text("{}", encoding="utf-8")
            mask = np.zeros((32, 32) if number == 9 else picture.shape, np.uint8)
            if number != 7:
                mask[8:20, 5 : 15 + number] = 1
            if number != 5:
                cv2.imwrite(str(outlines / f"{name}.png"), mask)
        cv2.imwrite(str(folder / "covid-19-pneumonia-12.jpg"), _dicom_fake.radiograph(99, 64))
        return cls()


def _mask_of(path: Path) -> Path:
    return path.parent.parent / _MASKS / f"{path.stem}.png"


def _size_and_mask(path: Path) -> tuple[int, int, str | None]:
    """Height, width and run lengths of the opacity; None where the mask has another size."""
    height, width = image_size(path)
    mask = read_image(_mask_of(path))
    return height, width, run_lengths.encode(mask > 0) if mask.shape == (height, width) else None


def _table(
    paths: list[Path], told: list[tuple[int, int, str | None] | ImageError], root: Path
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows, and those whose image or mask cannot be used."""
    records = []
    for path, found in zip(paths, told, strict=True):
        record: dict[str, Any] = {
            "image_id": path.stem,
            "patient_id": path.stem.partition("_")[0],
            "study_id": path.stem,
            "path": path.relative_to(root).as_posix(),
        }
        if isinstance(found, ImageError):
            record |= {"reason": found.reason, "detail": f"{Path(found.path).name}: {found.detail}"}
        elif found[2] is None:
            record |= {"reason": "mask_size", "detail": f"the image has {found[0]} x {found[1]} pixels"}
        else:
            record |= {"height": found[0], "width": found[1], "rle": found[2]}
        records.append(record)
    types = {**REQUIRED_TYPES, **dict.fromkeys(("rle", "reason", "detail"), pl.String())}
    rows, aside = set_aside(pl.DataFrame(records, schema=types).drop("split"))
    return rows.drop("rle").with_columns(mask_column(rows["rle"].to_list(), MASK_CLASS)), aside

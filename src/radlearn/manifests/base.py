"""The contract of a data set: a card, `read(root)` and `fake(root)`.

A manifest table has one row an image and these columns; ids, split and path are never null:

| column | type | |
|---|---|---|
| image_id, patient_id, study_id | str | image ids are unique; a patient lies in one split |
| split | str | train, validate or test |
| view | str | PA, AP, LATERAL or null |
| path | str | relative to the release's root |
| height, width | int32 | source pixels, null where unknown |
| report, findings, impression | str | optional |
| sentences | list<struct<text, boxes: list<int32>>> | optional; `boxes` index the row's boxes |
| one column a label of the card | float32 | 1, 0, -1 uncertain, null not mentioned |
| boxes | list<struct<x, y, w, h, class>> | optional, source pixels |
| mask | list<struct<class, rle>> | optional, run lengths "start length ..." over the flat image, from 0 |
| lesion_present | float32 | optional, of a CT slice: 1 or 0 |
| slice_index | int32 | optional, position of a slice in its series, from the head or the first image on |
| series_id | str | optional, the CT series |
| window | struct<low, high> | optional, the intensity window the release names, in Hounsfield units |
| spacing | struct<row, column, slice> | optional, millimetres from one row, column, slice to the next |

Every `read` ends with `checks.finish`: it checks the table, rejects faulty rows and fingerprints the rest.
The docstring of `fake` lists the oddities that it writes, one `- ` line each, five or more.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from radlearn.data.splits import SplitRule
from radlearn.records import Card, Release

REQUIRED = ("image_id", "patient_id", "study_id", "split", "view", "path", "height", "width")
SPLITS = ("train", "validate", "test")


class Manifest(ABC):
    """A release on disk, read into rows.

    Keyword arguments of the constructor are the data set's own settings, `data.<key>` of the configuration.
    """

    card: ClassVar[Card]
    splits: ClassVar[Mapping[str, SplitRule]] = {}
    """The splits to choose from with `data.split`, the default first; empty where there is one only."""
    generated: ClassVar[bool] = False
    """Whether `read` makes the release where it is missing; its root then lies in the cache."""

    def default_root(self) -> Path | None:
        """The folder to read where `data.root` is not given, or None."""
        return None

    def prompts(self) -> Mapping[str, tuple[Sequence[str], Sequence[str]]]:
        """Label -> positive and negative zero-shot prompts; other labels get the general defaults."""
        return {}

    def macro_labels(self) -> Mapping[str, Sequence[str]]:
        """Further macro means over some of the labels: name -> labels."""
        return {}

    @abstractmethod
    def read(self, root: Path, progress: Any = None) -> Release:
        """Read the release below `root`.

        Args:
            root: folder of the release; never written to.
            progress: optional callable (done, total, what) for slow readers.
        Raises:
            DataError: if it is no such release; says where it looked and what it wanted.
        """

    @classmethod
    @abstractmethod
    def fake(cls, root: Path) -> Manifest:
        """Write a miniature release with the real folder and column names below `root`.

        Returns a manifest with the settings that read it. It holds documented oddities of the real release.
        """

"""The miniature release of `OpenI`: the real folders and the real structure of its XML, invented reports."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np

_CAPTION = "Xray Chest PA and Lateral"
_CLEAR = "The heart is normal in size. The lungs are clear. No pneumothorax or pleural effusion."
_MISSING = "CXR5_IM-0005-2001"
_NUM_REPORTS = 40


@dataclass(frozen=True)
class _Study:
    findings: str
    impression: str
    major: tuple[str, ...]
    images: tuple[str, ...] | None = None  # None takes two
    caption: str = _CAPTION


# What is odd comes first, under the number of its report; then one of each label.
_STUDIES = (
    _Study(_CLEAR, "Normal chest x-XXXX.", ("normal",), ("CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001")),
    _Study("", "No acute disease.", ("normal",)),
    _Study("There is XXXX scarring at the left base.", "", ("Cicatrix/lung/base/left",)),
    _Study("", "", ("No Indexing",)),
    _Study("Small left effusion.", "Effusion.", ("Pleural Effusion/left/small",)),
    _Study(_CLEAR, "No active disease.", ("Technical Quality of Image Unsatisfactory ",), ()),
    _Study(
        "Mild cardiomegaly. END OF REPORT. Dictated by: A. Reader",
        "1. Mild cardiomegaly. 2. No edema.",
        ("Cardiomegaly/mild", "Subcutaneous  Emphysema"),
    ),
    _Study(
        "Endotracheal tube in place.", "Tube.", ("Tube, Inserted/trachea",), ("CXR8_IM-2333-1001",),
        "AP portable chest, XXXX, XXXX PM ",
    ),
    _Study("Three views.", "Rib fracture.", ("Fractures, Bone/ribs/left/healed",),
           ("CXR9_IM-2407-1001", "CXR9_IM-2407-2001", "CXR9_IM-2407-3001")),
    _Study(_CLEAR, "Normal.", ("normal",), ("CXR10_IM-0002-0001-0001", "CXR10_IM-0002-0001-0002")),
    _Study("Widened mediastinum.", "Widening.", ("Mediastinum/prominent/mild",)),
    _Study("Patchy opacity at the right base.", "Opacity.", ("Opacity/lung/base/right/patchy",)),
    _Study("Nodule in the left apex.", "Nodule.", ("Nodule/lung/apex/left",)),
    _Study("Interstitial edema.", "Edema.", ("Pulmonary Edema/interstitial",)),
    _Study("Consolidation in the lingula.", "Consolidation.", ("Consolidation/lung/lingula",)),
    _Study("Pneumonia.", "Pneumonia.", ("Pneumonia/upper lobe/left", "Infiltrate/lung")),
    _Study("Basilar atelectasis.", "Atelectasis.", ("Pulmonary Atelectasis/base/left/mild",)),
    _Study("Small apical pneumothorax.", "Pneumothorax.", ("Pneumothorax/apex/right/small",)),
    _Study("Apical pleural thickening.", "Thickening.", ("Thickening/pleura/apex/bilateral",)),
)  # fmt: skip


def write(root: Path) -> None:
    """Write report files and images below `root`."""
    folder, images = root / "ecgen-radiology", root / "NLMCXR_png"
    folder.mkdir(parents=True, exist_ok=True)
    images.mkdir(parents=True, exist_ok=True)
    for number in range(1, _NUM_REPORTS + 1):
        odd = number <= len(_STUDIES)
        study = _STUDIES[number - 1] if odd else _Study(_CLEAR, "No acute disease.", ("normal",))
        ids = study.images
        if ids is None:
            ids = (f"CXR{number}_IM-{number:04d}-1001", f"CXR{number}_IM-{number:04d}-2001")
        text = _xml(number, study, ids)
        (folder / f"{number}.xml").write_text(text, encoding="utf-8")
        for image_id in ids:
            if image_id != _MISSING:
                _write_image(images / f"{image_id}.png", seed=zlib.crc32(image_id.encode()))
    (folder / "3999.xml").write_text(_xml(3999, _STUDIES[0], ())[:600], encoding="utf-8")


def _xml(number: int, study: _Study, images: tuple[str, ...]) -> str:
    sections = {
        "COMPARISON": "None.",
        "INDICATION": "XXXX-year-old with cough",
        "FINDINGS": study.findings,
        "IMPRESSION": study.impression,
    }
    texts = "\n".join(
        f'            <AbstractText Label="{name}">{escape(text)}</AbstractText>'
        if text
        else f'            <AbstractText Label="{name}"/>'
        for name, text in sections.items()
    )
    major = "\n".join(f"      <major>{escape(heading)}</major>" for heading in study.major)
    return f"""<?xml version="1.0" encoding="utf-8"?>
<eCitation>
   <meta type="rr"/>
   <uId id="CXR{number}"/>
   <pmcId id="{number}"/>
   <docSource>CXR</docSource>
   <IUXRId id="{number}"/>
   <licenseType>open-access</licenseType>
   <licenseURL>http://creativecommons.org/licenses/by-nc-nd/4.0/</licenseURL>
   <ccLicense>byncnd</ccLicense>
   <articleDate>2013-08-01</articleDate>
   <articleType>XR</articleType>
   <publisher>Indiana University</publisher>
   <title>Indiana University Chest X-ray Collection</title>
   <specialty>pulmonary diseases</specialty>
   <subset>CXR</subset>
   <MedlineCitation Owner="Indiana University" Status="supplied by publisher">
      <Article PubModel="Electronic">
         <Abstract>
{texts}
         </Abstract>
         <Language>eng</Language>
      </Article>
   </MedlineCitation>
   <MeSH>
{major}
   </MeSH>
{"".join(_parent_image(k, image_id, study.caption) for k, image_id in enumerate(images, start=1))}</eCitation>
"""


def _parent_image(position: int, image_id: str, caption: str) -> str:
    return f"""   <parentImage id={quoteattr(image_id)}>
      <figureId>F{position}</figureId>
      <caption>{escape(caption)}</caption>
      <panel type="single">
         <url>/hadoop/storage/radiology/extract/{image_id}.jpg</url>
         <imgModality>7</imgModality>
      </panel>
   </parentImage>
"""


def _write_image(path: Path, seed: int) -> None:
    import cv2

    generator = np.random.Generator(np.random.PCG64(seed))
    ramp = np.linspace(40, 200, 48)[None] * np.linspace(0.6, 1, 56)[:, None]
    pixels = np.clip(ramp + generator.normal(0, 8, ramp.shape), 0, 255).astype(np.uint8)
    cv2.imwrite(str(path), pixels)

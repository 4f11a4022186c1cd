"""From the MeSH headings of an OpenI report to the 14 CheXpert labels.

Two annotators coded each report by hand (`major`): a heading with qualifiers after slashes, such as
`Opacity/lung/base/left/mild`. They coded what is there, never what is absent, so a label is 1 where one of
its headings stands, and 0 where none does in a report that was coded. A report whose one heading is `No
Indexing` was not coded: its labels are null. `No Finding` is the heading `normal`, which is stricter than
CheXpert's rule: a scoliosis or a calcified granuloma is not normal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# Label -> what one of its headings matches from its start. Headings are compared in lower case.
_HEADINGS = {
    "No Finding": r"normal$",
    "Enlarged Cardiomediastinum": r"mediastinum/(?!lymph nodes|blood vessels).*(?:prominent|enlarged)",
    "Cardiomegaly": (
        r"cardiomegaly|cardiac shadow/.*(?:enlarged|borderline|prominent)|heart ventricles/.*enlarged"
    ),
    "Lung Opacity": (
        r"opacity|infiltrate|airspace disease|density/(?:.*lung|.*retrocardiac)|cicatrix(?!/pleura)|"
        r"(?:markings|thickening)/.*interstitial|lung/.*interstitial|lung diseases, interstitial"
    ),
    "Lung Lesion": r"nodule|mass(?!/breast)(?:/|$)|cavitation|(?:opacity|density)/.*round",
    "Edema": r"pulmonary edema|pulmonary congestion|heart failure",
    "Consolidation": r"consolidation",
    "Pneumonia": r"pneumonia",
    "Atelectasis": r"pulmonary atelectasis",
    "Pneumothorax": r"pneumothorax|hydropneumothorax|hemopneumothorax",
    "Pleural Effusion": r"pleural effusion|hydropneumothorax|hemopneumothorax|hemothorax",
    "Pleural Other": r"(?:thickening|cicatrix|calcinosis)/pleura|pleura/.*abnormal",
    "Fracture": r"fractures, bone",
    "Support Devices": r"catheters, indwelling|tube, inserted|(?:implanted )?medical device|stents",
}
_PATTERNS = {label: re.compile(heading) for label, heading in _HEADINGS.items()}
_NOT_CODED = "no indexing"


def labels_of(headings: Iterable[str]) -> dict[str, float | None]:
    """Labels of a report from its `major` headings: 1, 0, or null where nobody coded it."""
    plain = [" ".join(heading.lower().split()) for heading in headings]
    coded = [heading for heading in plain if heading != _NOT_CODED]
    if not coded:
        return dict.fromkeys(_HEADINGS)
    return {
        label: float(any(pattern.match(heading) for heading in coded)) for label, pattern in _PATTERNS.items()
    }

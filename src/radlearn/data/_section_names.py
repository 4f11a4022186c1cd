"""Names of report sections and their spellings: the public MIMIC-CXR table, and what other reports add to it.

Sources: mimic-cxr `txt/section_parser.py` (the public table, whole); CheXzero `data_process.py`; the headers
of the OpenI reports.
"""

from __future__ import annotations

_PUBLIC_SPELLINGS = {
    "preamble": (),
    "impression": (
        "conclusion", "findings and impression", "findings/impression", "findings/ impression", "ndication",
        "impresson", "imprression", "imoression", "impressoin", "imprssion", "impresion", "imperssion",
        "mpression", "impession",
    ),
    "comparison": (
        "comparisons", "reference exam", "comparison exam", "comparison film", "comparision", "comparsion",
        "comparrison", "comparisions",
    ),
    "indication": ("reason for examination", "reason for exam", "clinical indication", "idication"),
    "findings": (
        "chest, two views", "finding", "findins", "findindgs", "findgings", "findngs", "findnings",
        "finidngs", "reference findings",
    ),
    "examination": ("exam", "type of examination"),
    "technique": (),
    "history": ("clinical history", "clinical information", "patient history", "pfi"),
    "notification": (),
    "addendum": (),
    "date": (),
    "comment": (),
    "wet read": ("wetread",),
    "recommendations": ("recommendation(s)", "recommendation"),
}  # fmt: skip
PUBLIC_NAMES = {spelling: name for name, others in _PUBLIC_SPELLINGS.items() for spelling in (name, *others)}
"""The public table, its slip included: "ndication" is an indication that it calls an impression."""

CONTAINED = ("impression", "findings", "history", "comparison", "addendum")
"""A header that contains one of these, tried in this order, is that section."""

VIEW_TITLES = (
    "chest", "portable", "pa and lateral", "lateral and pa", "ap and lateral", "lateral and ap",
    "frontal and", "two views", "frontal view", "pa view", "ap view", "one view", "lateral view",
    "bone window", "frontal upright", "frontal semi-upright", "ribs", "pa and lat",
)  # fmt: skip
"""A header that contains one of these stands above the findings of that view."""


def _public(name: str) -> tuple[str, ...]:
    return (name, *_PUBLIC_SPELLINGS[name])


_SPELLINGS = {
    "impression": (
        *(s for s in _public("impression") if s != "ndication"),
        "impressions", "imp", "imression", "conclusions", "opinion", "summary", "impression and plan",
        "impression/plan", "impression and findings", "impression/findings", "impression and recommendation",
        "impression and recommendations", "impression/recommendation", "impression/recommendations",
        "final impression", "overall impression",
    ),
    "findings": (
        *_public("findings"),
        "report findings", "chest findings", "pa and lateral", "pa and lateral chest",
        "pa and lateral views", "pa and lateral views of the chest", "frontal and lateral views",
        "frontal and lateral views of the chest", "chest, pa and lateral", "chest, single view",
        "single frontal view of the chest", "two views of the chest", "ap chest", "portable chest",
        "portable ap chest", "portable chest radiograph", "supine chest", "upright chest",
    ),
    "recommendation": (*_public("recommendations"), "recommended follow-up"),
    "notification": (
        "notification", "notifications", "notification(s)", "critical result", "critical results",
    ),
    "addendum": ("addendum", "addenda", "final addendum"),
    "report": ("final report", "preliminary report"),
    "wet_read": (*_public("wet read"), "wet read version", "preliminary read"),
    "examination": (*_public("examination"), "study", "procedure", "exam type"),
    "indication": (
        *_public("indication"), *_public("history"),
        "indications", "ndication", "reason for this examination", "reason for study",
        "history and indication",
    ),
    "technique": ("technique", "views", "number of views"),
    "comparison": (*_public("comparison"), "comparison study", "comparison studies", "prior studies"),
    "signature": ("end of impression", "end of report", "end of addendum"),
}  # fmt: skip
ALIASES = {
    spelling.replace("/ ", "/"): name for name, spellings in _SPELLINGS.items() for spelling in spellings
}
"""Every known header, in lower case, and the canonical name of its section in `radlearn.data.reports`."""

"""Words of `finding_labels`: phrases that name a finding, and phrases that negate it or make it uncertain.

A phrase is words with spaces between; `a|b` is a choice, `a|` an option, `_` a space inside a choice. Words
are lower case and singular: hyphens are spaces, plurals are folded. Of phrases that begin at one word the
longest counts, so that "no change" is no negation and "mass effect" no mass.

Sources: what each label covers follows CheXpert (Irvin et al. 2019, arXiv:1901.07031, and the public
labeller's description); kinds of triggers and their direction follow NegEx (Chapman et al. 2001) and NegBio
(Peng et al. 2018). The lists are our own, tuned on one half of the OpenI reports (docs/report-text.md).
"""

from __future__ import annotations

import itertools

Phrase = tuple[str, ...]

MENTIONS: dict[str, tuple[str, ...]] = {
    "Enlarged Cardiomediastinum": (
        "mediastinal|mediastinum|cardiomediastinal|superior_mediastinal widening|enlargement|prominence",
        "widening|enlargement|prominence of the| superior|upper| mediastinum|mediastinal|cardiomediastinal",
    ),
    "Cardiomegaly": (
        "cardiomegaly", "cardiac|heart|cardiopericardial|ventricular enlargement", "cardiac prominence",
        "enlargement of the| heart|cardiac|cardiopericardial silhouette|shadow|size|contour|",
        "left_ventricular|lv|biventricular|right_ventricular hypertrophy|dilation|dilatation",
    ),
    "Lung Opacity": (
        "opacity", "opacification", "opacified", "airspace|air_space disease|process", "infiltrate",
        "infiltration", "infiltrative", "increased|hazy|patchy|streaky|focal|alveolar|parenchymal density",
        "increased|prominent|coarse|coarsened|accentuated interstitial marking|pattern|lung_marking",
        "interstitial|reticular|reticulonodular marking|pattern|thickening|prominence|change|density|disease",
        "interstitial lung disease|change|prominence", "reticulation", "reticulonodular",
        "peribronchial|bronchial_wall thickening|cuffing", "scar", "scarring", "fibrotic|cicatricial scar",
        "lung|pulmonary|airspace|retrocardiac|basilar|lingular density",
        "density in|over|overlying|within the", "haziness", "ground glass",
    ),
    "Lung Lesion": (
        "nodule", "nodular density|opacity|opacification|lesion|focus|mass", "mass", "tumor", "neoplasm",
        "carcinoma", "cavitary|pulmonary|lung lesion", "cavitation", "metastasis",
        "metastatic lesion|disease|nodule", "malignancy", "lung cancer", "micronodule", "masslike",
        "mass like",
    ),
    "Edema": (
        "edema", "heart failure", "chf", "cardiac failure|decompensation", "fluid overload",
        "volume overload", "pulmonary| vascular|venous|pulmonary|central congestion", "congestion",
        "congestive change", "vascular prominence|engorgement|redistribution|indistinctness", "cephalization",
        "kerley b| line", "engorged", "engorgement", "indistinct vascular margination",
        "vascular indistinctness", "increased|prominent pulmonary|lung|central vascularity|vasculature",
        "prominence of the central| pulmonary vasculature|vascularity|vessel",
    ),
    "Consolidation": ("consolidation", "consolidative", "consolidated"),
    "Pneumonia": (
        "pneumonia", "bronchopneumonia", "infection", "infectious process|infiltrate|etiology|disease|change",
        "pneumonitis", "superimposed infection",
    ),
    "Atelectasis": (
        "atelectasis", "atelectatic", "platelike|plate_like atelectasis", "atelectasi",
        "lobar|lung|lobe collapse",
    ),
    "Pneumothorax": ("pneumothorax", "hydropneumothorax", "hemopneumothorax", "ptx"),
    "Pleural Effusion": (
        "effusion", "pleural fluid", "hydropneumothorax", "hemopneumothorax", "hemothorax",
        "fluid in|within the| pleural|major|minor|fissure",
    ),
    "Pleural Other": (
        "pleural thickening|scarring|scar|plaque|calcification|fibrosis|reaction",
        "pleuroparenchymal|pleural_parenchymal|pleuro_parenchymal scarring|scar|thickening|change",
        "fibrothorax", "apical thickening|cap|capping", "apical pleural thickening|scarring",
        "thickening of the| left|right| pleura|fissure", "biapical pleural thickening|scarring",
        "biapical thickening", "fissural thickening",
    ),
    "Fracture": ("fracture", "fractured"),
    "Support Devices": (
        "pacemaker", "pacer", "icd", "aicd", "defibrillator", "pacing lead|device|wire", "catheter", "picc",
        "port", "portacath", "port a cath", "mediport",
        "chest|endotracheal|tracheostomy|nasogastric|enteric tube",
        "feeding|gastric|gastrostomy|dobhoff|orogastric|drainage|ng|et|ett|og tube", "swan ganz", "tube",
        "endotracheal", "tracheostomy", "line in|tip|terminates|place",
        "central|venous|subclavian|jugular|picc|dialysis|arterial line", "drain", "stent", "prosthesis",
        "prosthetic", "valve replacement|prosthesis", "mechanical|prosthetic valve", "hardware",
        "arthroplasty", "screw", "device", "stimulator", "generator", "cannula", "coil", "shunt",
        "balloon pump", "monitor lead", "lead", "aortic|mitral|heart|cardiac valve", "iabp", "pump", "rod",
        "plate",
    ),
}  # fmt: skip

# They look like mentions and are none. The longest phrase counts, so these are longer than what they shield.
NO_MENTIONS: tuple[str, ...] = (
    "mass effect", "body mass", "soft tissue density", "port film", "lead to", "leading to",
    "bone|bony|osseous|calcific|calcified density", "growth plate", "end plate", "scar tissue of the skin",
    "line of sight", "valve calcification", "subcutaneous|soft_tissue|alveolar_ridge edema",
    "pericardial effusion", "joint effusion", "granulomatous infection|disease", "history of pneumonia",
    "nodular contour", "device check", "nipple shadow", "breast prosthesis",
    "aortic|mitral valve calcification", "lung volume",
)  # fmt: skip

# Subjects of a statement about size; what the statement says is in `STATES`.
SUBJECTS: dict[str, tuple[str, ...]] = {
    "Cardiomegaly": (
        "heart", "heart|cardiac|cardiopericardial size|shadow|silhouette|contour", "cardiac silhouette size",
        "size of the heart", "cardiac and|, mediastinal silhouette|contour|shadow|structure|size",
    ),
    "Enlarged Cardiomediastinum": (
        "mediastinum", "mediastinal silhouette|contour|shadow|size|structure|width",
        "cardiomediastinal silhouette|contour|shadow|size|structure|",
        "cardio mediastinal silhouette|contour",
        "cardiac and|, mediastinal silhouette|contour|shadow|structure|size",
        "mediastinal and|, hilar|cardiac silhouette|contour|shadow|structure",
    ),
}  # fmt: skip

STATES: dict[str, tuple[str, ...]] = {
    "enlarged": (
        "enlarged", "increased", "large", "widened", "dilated", "widening", "enlargement", "generous", "wide",
        "globular", "top normal to enlarged",
    ),
    "prominent": ("prominent", "accentuated", "full"),
    "borderline": (
        "borderline", "upper limit of normal", "top normal", "upper normal", "high normal", "upper limit",
        "borderline enlarged|enlargement|large|prominent", "at the| upper limit of normal",
        "top limit of normal", "normal to mildly|borderline enlarged", "slightly large",
        "upper limit of normal to mildly|slightly|borderline| enlarged",
    ),
    "normal": (
        "normal", "unremarkable", "within normal limit|range|size", "within limit of normal", "intact",
        "not enlarged|widened|dilated", "wnl", "midline", "no enlargement", "grossly normal", "normal limit",
    ),
}  # fmt: skip

# Before what they negate.
NEGATIONS: tuple[str, ...] = (
    "no", "not", "without", "negative for", "free of", "clear of", "absence of", "absent", "nor", "neither",
    "no evidence|sign|suggestion|indication of|for", "denies", "never", "rather than", "instead of",
    "no longer", "resolution of", "interval resolution|clearing|removal of", "removal of", "resolved",
    "no new", "no definite|obvious|convincing|significant|visible", "fails to show|demonstrate|reveal",
    "devoid of", "no radiographic|plain_film| evidence of", "not have|show|demonstrate|see", "lack of",
    "ruled out for",
)  # fmt: skip
# After what they negate.
NEGATIONS_AFTER: tuple[str, ...] = (
    "not definitely|clearly|well| seen|identified|present|visualized|evident|noted|demonstrated|appreciated",
    "not definitely|clearly|well| detected|apparent|visible",
    "is|are|was|were absent|negative|none|excluded|gone",
    "has|have|had been| resolved|cleared|disappeared|removed|withdrawn", "ruled out", "resolved",
    "has|have completely|nearly|essentially|largely resolved|cleared|disappeared",
    "no longer seen|present|visualized|visible|identified|evident|appreciated|noted", "removed",
    "within normal limit", "within limit of normal", ": none|no|negative|absent",
)  # fmt: skip
# A negation word that negates nothing here.
PSEUDO_NEGATIONS: tuple[str, ...] = (
    "no change", "no interval|significant|appreciable|substantial|other|major|definite| change|improvement",
    "no significant|definite|appreciable interval change", "without change|difficulty", "not only",
    "without significant|interval change", "no increase|decrease", "not certain if|whether",
    "not necessarily", "no longer than", "not significantly|appreciably| changed", "no worsening",
    "not cause", "not mean", "without interval| worsening", "no further|additional change",
    "no previous|prior", "no comparison",
)  # fmt: skip
# Before what they make uncertain; these are stronger than a negation that stands before them.
DOUBTS_OVER_NEGATION: tuple[str, ...] = (
    "cannot|can_not|could_not exclude|rule_out",
    "cannot|can_not completely|entirely|definitely|confidently exclude", "not exclude",
    "difficult to completely|entirely| exclude", "not rule out", "not excluded",
)  # fmt: skip
DOUBTS: tuple[str, ...] = (
    "may|might|could be|represent|reflect|indicate|suggest|relate_to|", "possible", "possibly",
    "may|might|could be due_to|secondary_to|related_to|from", "may|might|could represent|reflect|suggest",
    "possibly|probably|likely|presumably due_to|secondary_to|related_to|representing|from",
    "probable", "probably", "questionable", "question of|", "likely", "suspicious for|of",
    "suspicion of|for", "suspect", "suspected", "concerning for", "concern for", "worrisome for",
    "suggestive of", "suggest", "suggesting", "suggested", "presumably", "presumed", "presumptive",
    "perhaps", "if any", "potential", "potentially", "equivocal", "differential", "differential includes",
    "differential consideration includes|include", "favor", "favored to|", "uncertain", "borderline",
    "if|whether this represent", "raise the| possibility|question of", "possibility of", "unclear if|whether",
)  # fmt: skip
# After what they make uncertain.
DOUBTS_AFTER: tuple[str, ...] = (
    "cannot|can_not|could_not be excluded|ruled_out|discounted", "not excluded",
    "cannot|can_not|could_not be completely|entirely|definitely|definitively|confidently excluded|ruled_out",
    "not completely|entirely|definitely excluded",
    "is|are possible|suspected|questionable|uncertain|probable",
    "may|might|could be present|considered|there", "possible", "suspected", "is|are difficult to exclude",
    "if any", "unlikely", "is|are felt| unlikely|less_likely", "should|could be considered", "less likely",
    "is|are a|another| consideration|possibility", "would be difficult to exclude",
    "would be a| consideration", "a|another| consideration", "is|are considered",
)  # fmt: skip
# What follows is asked for or imagined, not reported.
HYPOTHETICAL: tuple[str, ...] = (
    "if", "if there is|are", "evaluate|evaluation|assess|assessment|eval|screen|looking for", "rule out",
    "r o", "history of", "please correlate", "risk of", "to exclude|assess|evaluate", "exclude",
    "in order to", "should", "ensure", "detecting", "detection of", "correlate clinically for",
)  # fmt: skip
# What states something: a trigger that looks back looks no further.
VERBS: tuple[str, ...] = (
    "is", "are", "was", "were", "has", "have", "show", "demonstrate", "appear", "remain", "reveal", "suggest",
)  # fmt: skip
# A clause with one of these reports what is there: a list of absent findings ends before it.
PRESENT: frozenset[str] = frozenset(
    {"stable", "unchanged", "persist", "persistent", "again", "increased", "decreased", "improved",
     "worsened", "remain"}
)  # fmt: skip
# So does a clause that opens with one of these, unless it is still part of an "or" list.
SIZES: frozenset[str] = frozenset(
    {"mild", "mildly", "minimal", "slight", "small", "tiny", "moderate", "severe", "chronic", "old",
     "stable", "unchanged", "persistent", "scattered", "low", "bibasilar", "healed", "bilateral"}
)  # fmt: skip
# Where a negation ends: the cause of what is absent, or of something else, is there.
CAUSES: tuple[str, ...] = ("secondary|due|related to", "because of", "consistent|compatible with")
# Where every scope ends.
STOPS: tuple[str, ...] = (
    ";", ":", "but", "however", "although", "though", "except", "except for", "aside from", "apart from",
    "other than", "otherwise", "nevertheless", "there is|are|was|were|remain|has_been|have_been", "while",
    "whereas", "which", "yet", "besides", ".",
)  # fmt: skip


def expand(phrase: str) -> list[Phrase]:
    """All readings of a phrase with choices and options."""
    slots = [[choice.split("_") if choice else [] for choice in slot.split("|")] for slot in phrase.split()]
    return [tuple(itertools.chain.from_iterable(reading)) for reading in itertools.product(*slots)]


NAMED = {"mention": MENTIONS, "subject": SUBJECTS, "state": STATES}
"""Kind -> name -> phrases."""
TRIGGERS: dict[str, tuple[str, ...]] = {
    "nothing": NO_MENTIONS,
    "unchanged": PSEUDO_NEGATIONS,
    "negation": NEGATIONS,
    "negation after": NEGATIONS_AFTER,
    "doubt over negation": DOUBTS_OVER_NEGATION,
    "doubt": DOUBTS,
    "doubt after": DOUBTS_AFTER,
    "hypothetical": HYPOTHETICAL,
    "stop": STOPS,
    "or": ("or", "versus", "vs"),
    "cause": CAUSES,
    "joint": (",", "and", "with"),
    "comma": (",",),
    "verb": VERBS,
}
"""Kind -> phrases; a phrase may be of several kinds."""

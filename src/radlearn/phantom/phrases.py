"""The vocabulary of the report: what is found, what is not, and what is beside the point.

Fields such as {severity}, {side}, {location} and {size} are filled from the finding; {Side} is capitalised.
Templates of FOUND go to the FINDINGS section, of CONCLUDED to the IMPRESSION.
"""

FOUND: dict[str, tuple[str, ...]] = {
    "cardiomegaly": (
        "The cardiac silhouette is {severely} enlarged.",
        "There is {severity} cardiomegaly.",
        "Heart size is {severely} increased with a cardiothoracic ratio of about {size}.",
        "{Severity} enlargement of the cardiac silhouette is seen.",
    ),
    "effusion": (
        "There is a {severity} {side} pleural effusion.",
        "{Severity} {side} pleural effusion is present with blunting of the costophrenic angle.",
        "Blunting of the {side} costophrenic angle is consistent with a {severity} pleural effusion.",
        "A {severity} amount of {side} pleural fluid is noted.",
    ),
    "effusion bilateral": (
        "There are {severity} bilateral pleural effusions.",
        "{Severity} bilateral pleural effusions are present.",
        "Both costophrenic angles are blunted by {severity} pleural effusions.",
    ),
    "pneumothorax": (
        "There is a {severity} {side} {apical}pneumothorax.",
        "A visceral pleural line is seen on the {side}, consistent with a {severity} pneumothorax.",
        "{Severity} {side} {apical}pneumothorax is present, measuring {size} cm at the apex.",
        "Lucency without lung markings along the {side} chest wall represents a {severity} pneumothorax.",
    ),
    "consolidation": (
        "There is {severity} consolidation in the {location}.",
        "{Severity} airspace opacity is present in the {location}.",
        "A {severity} opacity projects over the {location}, concerning for pneumonia.",
        "{Severity} {location} consolidation is seen.",
    ),
    "atelectasis": (
        "There is {severity} atelectasis at the {location} with elevation of the {side} hemidiaphragm.",
        "{Shape} opacity at the {location} represents {severity} atelectasis.",
        "{Severity} volume loss at the {location} is consistent with atelectasis.",
        "{Severity} {side} basilar atelectasis is present.",
    ),
    "edema": (
        "There is {severity} pulmonary edema with perihilar haze.",
        "Vascular congestion and septal lines are consistent with {severity} interstitial edema.",
        "{Severity} perihilar opacities and vascular redistribution represent pulmonary edema.",
        "The pulmonary vasculature is engorged, with {severity} edema.",
    ),
    "nodule": (
        "There is a {size} cm {severity} in the {location}.",
        "A rounded opacity measuring {size} cm projects over the {location}.",
        "A {size} cm pulmonary {severity} is seen in the {location}.",
    ),
    "devices": (
        "{Device} is in place.",
        "{Device} is present in expected position.",
        "{Device} is noted.",
    ),
}

CONCLUDED: dict[str, tuple[str, ...]] = {
    "cardiomegaly": (
        "{Severity} cardiomegaly.",
        "{Severity} enlargement of the cardiac silhouette.",
        "Enlarged heart.",
        "{Severity} cardiac enlargement.",
    ),
    "effusion": (
        "{Severity} {side} pleural effusion.",
        "{Side} pleural effusion, {severity}.",
        "{Severity} {side} effusion.",
    ),
    "effusion bilateral": (
        "{Severity} bilateral pleural effusions.",
        "Bilateral pleural effusions, {severity}.",
    ),
    "pneumothorax": (
        "{Severity} {side} pneumothorax.",
        "{Side} {apical}pneumothorax.",
        "{Severity} {side} {apical}pneumothorax, measuring {size} cm.",
    ),
    "consolidation": (
        "{Location} consolidation, concerning for pneumonia.",
        "{Location} pneumonia.",
        "{Severity} {location} consolidation.",
        "{Location} airspace opacity, compatible with pneumonia in the proper clinical setting.",
    ),
    "atelectasis": (
        "{Severity} {side} basilar atelectasis.",
        "{Location} atelectasis.",
        "{Severity} atelectasis at the {location}.",
    ),
    "edema": (
        "{Severity} pulmonary edema.",
        "Pulmonary vascular congestion with {severity} edema.",
        "Findings of {severity} interstitial edema.",
    ),
    "nodule": (
        "{size} cm {location} pulmonary {severity}.",
        "{Location} {severity} for which CT is recommended.",
        "Pulmonary {severity} in the {location}, {size} cm.",
    ),
    "devices": (
        "{Device} in place.",
        "{Device} in standard position.",
        "Support device: {device}.",
    ),
}

# Said instead, in place of certainty.
UNCERTAIN: dict[str, tuple[str, ...]] = {
    "cardiomegaly": ("The heart is borderline to {severely} enlarged.", "Possible {severity} cardiomegaly."),
    "effusion": (
        "Possible {severity} {side} pleural effusion.",
        "Blunting of the {side} costophrenic angle may represent a {severity} effusion.",
    ),
    "effusion bilateral": ("Probable {severity} bilateral pleural effusions.",),
    "pneumothorax": (
        "Probable {severity} {side} pneumothorax.",
        "Suspected {severity} {side} {apical}pneumothorax.",
    ),
    "consolidation": (
        "{Location} opacity may represent pneumonia or aspiration.",
        "Possible {location} consolidation.",
    ),
    "atelectasis": (
        "{Location} opacity likely represents atelectasis.",
        "Probable {side} basilar atelectasis.",
    ),
    "edema": ("Findings may represent {severity} pulmonary edema.", "Probable {severity} edema."),
    "nodule": (
        "Rounded {location} opacity may represent a pulmonary {severity}.",
        "Possible {size} cm {location} {severity}.",
    ),
}

ABSENT: dict[str, tuple[tuple[str, ...], float]] = {
    "cardiomegaly": (
        (
            "Heart size is normal.",
            "The cardiomediastinal silhouette is within normal limits.",
            "Cardiac silhouette is not enlarged.",
        ),
        0.8,
    ),
    "effusion": (
        ("No pleural effusion.", "There is no pleural effusion.", "The costophrenic angles are sharp."),
        0.7,
    ),
    "pneumothorax": (
        ("No pneumothorax.", "There is no evidence of pneumothorax.", "No pneumothorax is seen."),
        0.75,
    ),
    "consolidation": (
        (
            "No focal consolidation.",
            "The lungs are clear without focal airspace disease.",
            "No focal opacity to suggest pneumonia.",
        ),
        0.7,
    ),
    "atelectasis": (("No atelectasis.", "Lung volumes are preserved."), 0.15),
    "edema": (
        ("No pulmonary edema.", "The pulmonary vasculature is normal.", "There is no vascular congestion."),
        0.45,
    ),
    "nodule": (("No suspicious pulmonary nodule.", "No pulmonary mass."), 0.2),
    "devices": (("No support devices.", "No lines or tubes."), 0.15),
}
# True only where nothing was found in either part.
ABSENT_TOGETHER = ("No pleural effusion or pneumothorax.", "There is no pleural effusion or pneumothorax.")

NORMAL = (
    "The osseous structures are intact.",
    "The mediastinal contours are normal.",
    "No acute osseous abnormality.",
    "The trachea is midline.",
    "The upper abdomen is unremarkable.",
    "The hila are unremarkable.",
)
DEGENERATIVE = (
    "Degenerative changes of the thoracic spine.",
    "Mild degenerative changes are seen in the spine.",
    "Multilevel thoracic spondylosis.",
)
AORTA = ("The aorta is tortuous.", "Atherosclerotic calcification of the aortic arch.")
LOW_VOLUME = ("Lung volumes are low.", "Low lung volumes accentuate the vascular markings.")

NO_ACUTE = "No acute cardiopulmonary process."
INDICATIONS = (
    "Shortness of breath.",
    "Cough.",
    "Chest pain.",
    "Fever.",
    "Evaluate for interval change.",
    "Preoperative evaluation.",
    "Weakness.",
)
TECHNIQUE = {
    "PA": (
        "Single PA view of the chest.",
        "Upright PA radiograph of the chest.",
        "PA view of the chest was obtained.",
    ),
    "AP": (
        "Single portable AP view of the chest.",
        "Portable AP radiograph of the chest.",
        "Semi-upright AP view of the chest was obtained.",
    ),
}
# Sentences about the time course of a finding, by trend; {topic} is the plain name of the finding.
TREND = {
    "new": ("This is new since the prior study.", "The {topic} is new from the prior radiograph."),
    "unchanged": ("This is unchanged from the prior study.", "The {topic} is unchanged."),
    "increased": ("This has increased since the prior study.", "The {topic} has worsened."),
    "decreased": ("This has decreased since the prior study.", "The {topic} has improved."),
    "resolved": ("The previously seen {topic} has resolved.", "Interval resolution of the {topic}."),
}
TREND_WORDS = {"new": "new", "unchanged": "unchanged", "increased": "increased", "decreased": "improved"}
TOPICS = {
    "cardiomegaly": "cardiomegaly",
    "effusion": "pleural effusion",
    "pneumothorax": "pneumothorax",
    "consolidation": "consolidation",
    "atelectasis": "atelectasis",
    "edema": "pulmonary edema",
    "nodule": "pulmonary nodule",
    "devices": "support device",
}

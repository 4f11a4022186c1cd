"""What is written below each figure: what is seen, on how many cases, and how an interval was made."""

INTERVAL = (
    "Intervals are 95 % percentile intervals of a bootstrap that redraws patients, each with all their "
    "images; they show how far another sample of patients would move the number, and nothing about other "
    "training seeds."
)

# Figure -> caption and its short form for those who cannot see the figure; names in braces are filled in.
CAPTIONS = {
    "learning_curves": (
        (
            "Learning curves of {run}: faint lines are single logged steps, strong lines their running "
            "mean; n = {count}. One training run, hence no interval; the score while training is a point "
            "estimate, the dashed line is chance."
        ),
        "Training loss, its terms, learning rate and zero-shot score of {run} over the steps",
    ),
    "learning_curves of several runs": (
        (
            "Training loss and periodic score of all runs; n = {count}. Losses of different methods have "
            "different scales and do not compare; the scores do where the data set is the same. Point "
            "estimates, no interval; the dashed line is chance."
        ),
        "Training loss and zero-shot score of all runs over the steps",
    ),
    "collapse": (
        (
            "Collapse diagnostics of {run}: spread and number of dimensions in use of the embeddings of one "
            "held-out batch. Below a mean standard deviation of {alarm} a dimension the "
            "embedding has shrunk to a point (alarm). No interval: one batch, one training run."
        ),
        "Standard deviation and effective rank of the embeddings of {run} over the steps",
    ),
    "roc_curves": (
        (
            "ROC curves of {run}, {task} on {data} ({split}); n = {count}. The legend gives the area below "
            "each curve as a point estimate (its interval stands in the table) and the positives and "
            "negatives it rests on; the dashed diagonal is chance."
        ),
        "One ROC curve a label, {task} on {data}",
    ),
    "auc_intervals": (
        (
            "AUC a label, {task} on {data} ({split}){others}; n = {count}. Bars are 95 % intervals, the "
            "dashed line is chance. " + INTERVAL
        ),
        "Forest plot of the AUC a label with 95 % intervals, {task} on {data}",
    ),
    "embedding_map": (
        (
            "Image embeddings of {run} on {data}, scaled to length 1 and projected on their first two "
            "principal components; n = {count}. Colour marks the images with the finding, grey all others. "
            "Directions beyond these two are not seen; the axes say what share of the variance they hold."
        ),
        "Scatter plots of the embeddings on {data}, one panel a finding",
    ),
    "example_cases": (
        (
            "Example cases of {data}: {count} ({kind}) with their findings outlined (the masks of the data "
            "set, not a prediction) and the impression of their report below."
        ),
        "Chest radiographs of {data} with outlined findings",
    ),
}

"""Unit and meaning of the columns that do not come from a metric or measure."""

from __future__ import annotations

from .columns import interval

_PLACE = {
    "dataset": ("", "label of the dataset"),
    "backbone": ("", "label of the backbone"),
    "cut": ("", "block after which the model is split"),
    "defense": ("", "label of the defense; - for rows that were computed from the truth"),
}
_SEED = {"seed": ("", "seed of the target's training")}
_STATE = {
    "key": ("", "key of the record"),
    "status": ("", "done, failed, skipped or not run"),
    "reason": ("", "why the row, or a value in it, is missing"),
}
_ATTACK = {
    "attack": ("", "label of the attack, or name of the reference row"),
    "knowledge": ("", "level of adversary knowledge"),
    "attack_seed": ("", "seed of the attack"),
}
_FLAGS = {"flags": ("", "validity flags, joined by '; '")}
_LEAKAGE = interval(
    "leakage", "", "1 - mean MSE / mean MSE of the prior: 0 no better than not looking, 1 a perfect copy"
)
_RESOLUTION = interval(
    "equivalent_resolution",
    "px",
    "side of the thumbnail with the same MSE: 0 the prior, the image's side a perfect copy",
)
_USABLE = interval(
    "v_info_nats",
    "nats",
    "usable information: d/2 ln(MSE of the prior / MSE of the attack), d numbers per image; empty for a perfect copy",
)
_ACCURACY = interval("accuracy", "share", "share of images classified rightly through the defended wire")
_NOTE = (
    "'not distinguishable' where the interval of {} holds 0; 'one seed: training noise not included' where it rests on a "
    "single training, whose chance no interval over images contains"
)

_ADVANTAGE = interval(
    "label_advantage",
    "",
    "of attacks that read a class or another attribute: (a - c) / (1 - c), a the accuracy and c the share of the most "
    "frequent value; 0 for the best constant guess, 1 for no error",
)

PROMISED = {
    "privacy_epsilon": (
        "nats",
        "ε that the defense proves by differential privacy, for what privacy_protects names first, in the summary the largest "
        "over seeds; empty where it proves none. A large one (beyond about 8) promises next to nothing",
    ),
    "privacy_delta": ("", "δ, the probability with which privacy_epsilon may be exceeded"),
    "privacy_protects": (
        "",
        "what that promise protects: one image that is sent so often, or one training image (then nothing of the features "
        "that are sent); 'no training image' with the reason where a part of a composition undoes it",
    ),
    "privacy_leaves_out": ("", "what it does not protect"),
    "privacy_accountant": ("", "how privacy_epsilon was worked out"),
}
"""Only where a defense of the suite proves a privacy budget."""

TARGETS = {
    **_PLACE,
    **_SEED,
    **_STATE,
    **_ACCURACY,
    **PROMISED,
    **_FLAGS,
    "val_rising": (
        "",
        "whether the mean validation accuracy of the last quarter of epochs lies clearly over the quarter before",
    ),
    "kept_epoch": ("epoch", "epoch whose weights were kept"),
    "epochs": ("epochs", "epochs trained; empty where another target's weights are reused"),
    "final_loss": ("", "training loss of the last epoch"),
    "val_accuracy": ("share", "accuracy on client_val at the kept epoch"),
    "timing_train_s": ("s", "training of the target"),
}

CELLS = {
    **_PLACE,
    **_SEED,
    **_ATTACK,
    "target": ("", "key of the target's record"),
    **_STATE,
    "n_images": ("images", "private images attacked"),
    **_LEAKAGE,
    **_RESOLUTION,
    **_USABLE,
    **_ADVANTAGE,
    "queries": ("images", "images that the attacker sent through the edge, fit and attack together"),
    "converged": ("", "whether the attack and its fit say they converged; empty where they say nothing"),
    **_FLAGS,
    "timing_attack_s": (
        "s",
        "reconstruction of all private images; empty where it was taken over from another target with the same wire",
    ),
    "timing_fit_s": ("s", "the fit that the attack uses, which other cells may share"),
    "timing_score_s": ("s", "computing the metrics"),
}

SUMMARY = {
    **_PLACE,
    "knowledge": ("", "level of adversary knowledge"),
    "worst_attack": ("", "the attack with the greatest mean leakage over seeds"),
    "selection": ("", "how the attack was chosen: a maximum is selected with the truth in hand"),
    **_LEAKAGE,
    **_RESOLUTION,
    **_USABLE,
    **interval(
        "leakage_envelope",
        "",
        "leakage if for each image the best reconstruction of any attack counted; selected with the truth in hand: an "
        "attacker, who cannot tell which one is best, need not reach it",
    ),
    **interval("leakage_change", "", "leakage less that of the undefended target, paired over images"),
    "leakage_change_note": (
        "",
        f"{_NOTE.format('leakage_change')}; 'a worst case is not known' where this row or that of none is incomplete: no "
        "interval tells then whether they differ",
    ),
    **_ACCURACY,
    **interval("accuracy_drop", "share", "accuracy of the undefended target less this one's, paired over images"),
    "accuracy_drop_note": ("", _NOTE.format("accuracy_drop")),
    "mi_nats": ("nats", "mean over seeds of the mutual information; empty unless every seed has a value"),
    "mi_text": (
        "",
        "mutual information in words: values, or what is certified where the estimator is not to be believed",
    ),
    **PROMISED,
    **_FLAGS,
    "seeds": ("", "seeds of targets behind the figures"),
    "cells_done": ("cells", "cells that are done"),
    "cells_failed": ("cells", "cells that failed"),
    "cells_skipped": ("cells", "cells that were skipped, with their reason in cells.csv"),
    "cells_not_run": ("cells", "cells without a record"),
    "incomplete": (
        "",
        "what is missing and ought not to be, and attacks that are not made here (refused, or excluded by the suite) but on "
        "most other defenses of the same place and level, and decide the worst case of one, beyond the interval: the true "
        "worst case here may be higher. Empty where nothing is",
    ),
}

ATTRIBUTES = {
    **_PLACE,
    "knowledge": ("", "level of adversary knowledge"),
    "attribute": ("", "what is read: label (the class) or another attribute of the dataset"),
    "attack": ("", "the attack with the greatest mean advantage; selected with the truth in hand"),
    **interval("label_accuracy", "share", "share of private images whose value that attack reads rightly"),
    **_ADVANTAGE,
    "constant": ("share", "share of the most frequent value among the private images: the best constant guess"),
    "incomplete": (
        "",
        "attacks that are missing and ought not to be, and such as are not made here but read most on another defense; empty "
        "where none is",
    ),
}

WORST_CASE = {
    **_PLACE,
    "knowledge": ("", "level of adversary knowledge"),
    "metric": ("", "metric of reconstructions"),
    "attack": (
        "",
        "the attack with the best mean by this metric over images and seeds; selected with the truth in hand",
    ),
    "selection": ("", "how attack and envelope were chosen, on which images"),
    **interval("value", "as metric", "mean of that attack"),
    **interval(
        "envelope",
        "as metric",
        "mean over images (and seeds) of the best value of any attack; selected with the truth in hand: an attacker, who "
        "cannot tell which one is best, need not reach it",
    ),
    "best_at": ("", "at how many images (and seeds) each attack has the best value; equal ones share an image"),
    "attacks": ("attacks", "attacks that are there for every seed"),
    "incomplete": (
        "",
        "attacks that are missing and ought not to be, and those that are not made here but on most other defenses, and decide "
        "the worst case of one by this metric, beyond the interval; empty where none is",
    ),
}

_COMPARED = {k: _PLACE[k] for k in ("dataset", "backbone", "cut")} | {"knowledge": ("", "level of adversary knowledge")}

MATCHED = {
    **_COMPARED,
    "defense": ("", "the defense with all its settings in the suite, as a label without parameters"),
    "settings": ("settings", "settings of it that are complete"),
    "allowed_drop": ("share", "accuracy that may be lost against none"),
    "best_measured": (
        "",
        "label of the setting with the least measured leakage of all defenses at this drop: the one that the others are "
        "compared with; empty where no setting loses so little",
    ),
    "setting": (
        "",
        "of those that lose no more (in the mean) and are not at chance, the one with the least leakage; empty where there is "
        "none",
    ),
    "attack": ("", "its worst attack"),
    "interpolated": (
        "",
        "whether the figure lies between two measured settings that are neighbours in the one number in which they differ: "
        "none of the suite's lies between them, complete or not, at chance or not",
    ),
    **interval("leakage", "", "worst-case leakage score of the setting; the attack is selected with the truth in hand"),
    **interval("accuracy_drop", "share", "accuracy lost against none, paired over images and seeds"),
    "measured_setting": ("", "setting without what was interpolated"),
    **interval("measured_leakage", "", "worst-case leakage score of measured_setting"),
    **interval(
        "leakage_above_best",
        "",
        "leakage of measured_setting less that of best_measured, paired over images and seeds; empty for that one itself and "
        "where the note says why",
    ),
    "sweep_ends": (
        "",
        "whether every one of several settings loses no more than is allowed: the figure is an upper limit, as stronger "
        "settings were not tried",
    ),
    "note": (
        "",
        _NOTE.format("leakage_above_best")
        + "; 'interpolated, not tested' of a figure that is; 'loses more' or 'accuracy at chance' where no setting is left, "
        "'loses more, not distinguishable' where the interval of the least loss reaches the allowed drop, 'what it loses is "
        "not known' where none or the defense has no accuracy of every seed; why there is no comparison",
    ),
    "hypervolume": (
        "",
        "area that the settings dominate, in [0, 1]²: kept accuracy (a - c)/(a of none - c), with c the accuracy_chance "
        "(1/classes where an earlier version did not count it), by privacy, 1 less the leakage score; both clipped; those at "
        "chance have no part, and there is none where none is at chance. A sweep that was pushed further has more of it",
    ),
    "hypervolume_within": ("", "the same of the settings that lose at most the largest allowed drop"),
    "on_front": (
        "",
        "whether a setting is on the Pareto front of all defenses by its means, without a test; none whose accuracy is at "
        "chance is",
    ),
    "incomplete": ("settings", "settings that lack something and have no part"),
}

PAIRS = {
    **_COMPARED,
    "defense": ("", "label of one defense"),
    "other": ("", "label of another"),
    **interval(
        "leakage_difference", "", "worst-case leakage of defense less that of other, paired over images and seeds"
    ),
    "note": ("", _NOTE.format("leakage_difference")),
    **interval("accuracy_difference", "share", "accuracy of defense less that of other, paired over images and seeds"),
    "accuracy_note": ("", _NOTE.format("accuracy_difference")),
}

PER_IMAGE = {
    **_PLACE,
    **_SEED,
    **_ATTACK,
    "image": ("", "index of the private image"),
    "group": ("", "group of the image (crops of one tile share it); empty where every image is its own"),
    "label": ("", "class of the image"),
    "prior_mse": ("", "MSE of the mean auxiliary image on this image"),
}

CRITERION = {
    "dataset": ("", "label of the dataset"),
    "quantity": (
        "",
        "a measured column that claims to say how much leaks; v_info_nats here is that of the strongest other attack "
        "(another plugin than the one whose error is predicted, no control), missing where there is none",
    ),
    "targets": ("targets", "targets with a value, ranked"),
    "censored": ("targets", "targets whose value is only a limit (an estimator at its ceiling): counted, not ranked"),
    "missing": ("targets", "targets without any value"),
    "incomplete": (
        "targets",
        "targets at which an attack failed, is still to come, or was not made though it decides on another target: the "
        "strongest is not known, they have no part",
    ),
    **interval(
        "spearman",
        "",
        "Spearman's rank correlation with the error of the strongest attack, over the targets with a value",
    ),
    "spearman_p": ("", "share of permutations of the targets with a correlation at least as far from 0"),
    "targets_within": (
        "targets",
        "targets in places (backbone and cut) with at least 3 independent ones that have values",
    ),
    **interval(
        "spearman_within",
        "",
        "the same with ranks within each place, pooled: what the place alone explains is left out; equal to spearman "
        "where there is one place",
    ),
    "spearman_within_p": ("", "the same for spearman_within, permuted within places"),
    "verdict": (
        "",
        "predicts (both intervals below 0 and both p at most 0.05), predicts the opposite (above 0); across cuts only or "
        "within cuts only where one of the two shows it; not shown to predict; not decided where more than 25 % of the "
        "targets are censored. Each quantity is judged alone, without correction for how many there are",
    ),
}

CLAIMS = {
    **{k: _PLACE[k] for k in ("dataset", "backbone", "cut")},
    "claim": ("", "short name of the claim"),
    "says": ("", "the statement"),
    "published": ("", "the figure as published"),
    "estimator": ("", "published: computed as the paper's code does; trustworthy: as this project does"),
    "decides": ("", "whether the figure has a vote; false: shown beside the verdict"),
    "figure": ("", "the column that decides"),
    "attack": ("", "attacks behind the figure: on the defense, on the baseline"),
    "defense": ("", "the defense that the claim is about"),
    "baseline": ("", "of those of use, the one that refutes the claim most clearly, or is least favourable to it"),
    "defense_value": ("as figure", "the figure of the defense, mean over seeds"),
    "defense_value_lo": ("as figure", "least that it can be, where its own limits are compared"),
    "defense_value_hi": ("as figure", "most that it can be, where its own limits are compared"),
    "baseline_value": ("as figure", "the figure of the baseline"),
    "baseline_value_lo": ("as figure", "least that it can be, where its own limits are compared"),
    "baseline_value_hi": ("as figure", "most that it can be, where its own limits are compared"),
    "compare": ("", "ratio (defense / baseline), inverse ratio, or difference"),
    "threshold": ("", "when the claim holds"),
    **interval("value", "", "the comparison"),
    "interval": (
        "",
        "what it is over: images (and seeds), paired; seeds, paired; ends of both figures; exact; none: a single reading",
    ),
    "verdict": ("", "what this figure says of the claim, against all baselines that are of use"),
    "overall": ("", "what all figures with a vote say of the claim"),
    "accuracy": ("share", "accuracy of the defense"),
    "baseline_accuracy": ("share", "accuracy of the baseline"),
    "note": ("", "what a reader should know"),
}

ADAPTIVE = {
    **_PLACE,
    "knowledge": ("", "level of adversary knowledge"),
    "attack": ("", "label of the attack that takes the defense into account"),
    "ignoring": ("", "label of the same attack without account of the defense"),
    **interval("leakage", "", "leakage score of attack"),
    **interval("leakage_ignoring", "", "leakage score of ignoring"),
    **interval(
        "leakage_hidden",
        "",
        "leakage less leakage_ignoring, paired over images and seeds: what an audit by the latter would not see",
    ),
    "note": (
        "",
        _NOTE.format("leakage_hidden") + "; and where the two chose different settings, which it then compares too",
    ),
    "incomplete": ("", "what is missing and ought not to be; there is no figure then"),
}

TUNED = {
    **_PLACE,
    **_SEED,
    **_ATTACK,
    "key": ("", "key of the cell's record, which may serve several levels"),
    "tried": ("settings", "settings that were to be tried, the given one among them"),
    "given_mse": (
        "",
        "mean squared error of the given setting on images of aux_val, attacked as if they were private; empty where the "
        "budget of queries left nothing to compare settings on",
    ),
    "chosen_mse": ("", "the same of the chosen setting; private images had no say in the choice"),
    "chosen": ("", "the chosen setting: the parameters in which the tried ones differ"),
    "other": ("", "whether another setting than the given one was chosen"),
    "note": (
        "",
        "what is missing, where the budget left nothing to compare settings on, and where the same attack with adaptive "
        "true and false chose different settings, which its gap then compares too",
    ),
}

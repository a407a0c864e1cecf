"""The columns of mutual information, and their names at the reference noises."""

from __future__ import annotations

from splitaudit.metric import Column

REFERENCE_NOISES = (8.0, 4.0, 2.0, 1.0, 0.5, 0.25)
"""Noises, over the root mean square of the centred clean features, at which every target has bounds."""

LEVEL = 3.0
"""Nats of which ``sigma_at_3nats`` says at what noise they are left."""


def lower_at(noise: float) -> str:
    """Returns the column of the lower bound at a reference noise."""
    return f"mi_lower_nats_at_{noise:g}"


def upper_at(noise: float) -> str:
    """Returns the column of the upper bound at a reference noise."""
    return f"mi_upper_nats_at_{noise:g}"


def status_at(noise: float) -> str:
    """Returns the column that says whether the lower bound at a reference noise is at its ceiling."""
    return f"mi_lower_status_at_{noise:g}"


def information_columns() -> dict[str, Column]:
    """Returns every column of :class:`MutualInformation`, in the order of the tables."""
    mine, lower = "mi_mine_status", "mi_lower_status"
    more, nats = "more leakage", "nats"
    columns = {
        "mi_mine_nats": Column(
            nats, more, "mutual information of image and wire at the reference noise, by MINE", status=mine
        ),
        "mi_mine_lo": Column(
            nats, more, "lower end of its 95 % interval; what is certified (one-sided 95 %) if it has no value"
        ),
        "mi_mine_hi": Column(nats, more, "upper end of its 95 % interval, for the sampling of test images"),
        mine: Column(
            "",
            "neither",
            "ok, or why there is no value: at_ceiling, low_ess, critic_limited, deterministic, too_few_images, constant "
            "(then the value is 0), invalid",
        ),
        "mi_lower_nats": Column(
            nats,
            more,
            "lower bound on the mutual information (noise mi_sigma_over_rms, one-sided 95 %): InfoNCE of an untrained critic",
            status=lower,
        ),
        lower: Column(
            "",
            "neither",
            "ok; at_ceiling: how much more there is cannot be seen with so many images; invalid: above the upper bound",
        ),
        "mi_upper_nats": Column(
            nats,
            more,
            "upper bound on the mutual information (noise mi_sigma_over_rms, one-sided 95 %): held-out cross-entropy",
        ),
        "mi_upper_se": Column(nats, "neither", "standard error of the upper bound, of which it holds 1.645"),
        "mi_upper_form": Column("", "neither", "density estimates behind the upper bound"),
        "mi_ceiling_nats": Column(nats, "neither", "ln of the number of test images: no lower bound can be higher"),
        "mi_cap_nats": Column(
            nats, "neither", "the most that so many numbers can carry at that noise: D/2 ln(1 + 1/noise^2)"
        ),
        "mi_ess": Column("pairs", "neither", "effective number of independent pairs behind the estimate"),
        "mi_twin_true": Column(
            nats, "neither", "information of Gaussian features with the same covariance, over their noise"
        ),
        "mi_twin_est": Column(nats, "neither", "what the estimator reads of them; empty where it cannot"),
        "mi_recovery": Column("", "neither", "the latter over the former"),
        "mi_twin_noise": Column(
            "", "neither", "noise of the twin over that of MINE: 1 unless it could not be read there"
        ),
        "mi_sigma_over_rms": Column(
            "", "neither", "reference noise over the root mean square of the wire's centred signal"
        ),
        "channel": Column(
            "", "neither", "what crosses the wire: deterministic, additive_gaussian or stochastic_other, plus the noise"
        ),
        "mi_projection": Column("", "neither", "how features too large for memory were reduced; none where not"),
        "mi_n_train": Column("images", "neither", "images that the critic was fitted to"),
        "mi_n_test": Column("images", "neither", "images that it was read on"),
        "mi_seeds": Column("", "neither", "critics that were trained; the value is their median"),
        "mi_critic": Column("", "neither", "what validation chose for the median: zero, frozen or trained"),
        "mi_selftest": Column("", "neither", "verdict of the known-answer tests on this machine"),
    }
    for noise in REFERENCE_NOISES:
        columns[lower_at(noise)] = Column(
            nats, more, f"lower bound at noise {noise:g} x rms, one-sided 95 %", status=status_at(noise), detail=True
        )
        columns[status_at(noise)] = Column("", "neither", "ok, or at_ceiling")
        columns[upper_at(noise)] = Column(
            nats, more, f"upper bound at noise {noise:g} x rms, one-sided 95 %", detail=True
        )
    columns["sigma_at_3nats"] = Column(
        "rms", more, "noise that leaves 3 nats: geometric mean of its two limits; higher survives more noise"
    )
    columns["sigma_at_3nats_lo"] = Column("rms", more, "noise at which the lower bound falls to 3 nats")
    columns["sigma_at_3nats_hi"] = Column("rms", more, "noise at which the upper bound falls to 3 nats")
    columns["reid_top1"] = Column(
        "share", more, "test wires at the reference noise whose likeliest image, of all test images, is their own"
    )
    columns["reid_top1_max"] = Column(
        "share", "neither", "the most that any attacker can reach there (Fano's inequality with the upper bound)"
    )
    return columns

"""SiftFunnel's parameters, and the settings that its authors' files reveal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from splitaudit.params import Params

Setting = Literal["facescrub-vgg", "argparse"]

SETTINGS: dict[str, dict[str, float]] = {
    "facescrub-vgg": {"smooth": 0.35, "alpha": 4.5, "beta": 0.4, "gamma": 0.1, "activity": 0.03},
    "argparse": {"smooth": 0.25, "alpha": 5.0, "beta": 2.0, "gamma": 2.0, "activity": 0.03},
}
"""Weights by setting. ``facescrub-vgg`` is written in the name of a checkpoint (its learning rate: 0.002), the only
complete one; ``argparse`` is what the training script does without arguments (learning rate 0.01). Which weights gave the
paper's tables is not known. The learning rate is a matter of the suite's training: ``training: {lr: 0.002}``."""

_DEFAULT = SETTINGS["facescrub-vgg"]


class SiftFunnelParams(Params):
    """Parameters of SiftFunnel. A weight that is not given is the setting's, so the validated ones are always complete."""

    setting: Setting = Field(
        "facescrub-vgg",
        description="where weights that are not given come from: a checkpoint's name, or the script's own",
    )
    variant: Literal["published", "corrected"] = Field(
        "published", description="the three penalties as the official code computes them, or without their faults"
    )
    smooth: float = Field(
        _DEFAULT["smooth"], ge=0, lt=1, description="label smoothing s: 1 - s on the true class, s/(K-1) elsewhere"
    )
    alpha: float = Field(_DEFAULT["alpha"], ge=0, description="weight of the task term (KL to the smoothed labels)")
    beta: float = Field(_DEFAULT["beta"], ge=0, description="weight of the distance correlation of input and features")
    gamma: float = Field(_DEFAULT["gamma"], ge=0, description="weight of the channel correlation inside the features")
    activity: float = Field(
        _DEFAULT["activity"],
        ge=0,
        description="weight of the mean absolute feature (corrected: over the root mean square), called entropy in the code",
    )
    attention: bool = Field(True, description="squeeze-and-excitation, triplet attention and CBAM; false: none of them")
    funnel: bool = Field(True, description="narrow edge and lifting cloud; false: the backbone's own halves")
    wire_channels: int | None = Field(
        None,
        ge=1,
        description="channels on the wire; null: as published at width 64 (cnn4 12, resnet18 6, vgg16_bn 4), in proportion, "
        "at least 1 (a single one may be dead from the start: give more at widths under 32)",
    )
    keep_dead_layer: bool = Field(
        False,
        description="resnet18: run layer1 on the edge and throw its result away, as published; costs, changes nothing",
    )

    @model_validator(mode="before")
    @classmethod
    def _weights_of_the_setting(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        setting = given.get("setting", "facescrub-vgg")
        weights = SETTINGS.get(setting, {}) if isinstance(setting, str) else {}
        return {**weights, **given}

    def implied(self) -> dict[str, Any]:
        return dict(SETTINGS[self.setting])

    @model_validator(mode="after")
    def _belongs_to_the_funnel(self) -> SiftFunnelParams:
        for name, given in (
            ("wire_channels", self.wire_channels is not None),
            ("keep_dead_layer", self.keep_dead_layer),
        ):
            if given and not self.funnel:
                raise ValueError(f"{name} belongs to the funnel, which funnel: false leaves out. Leave out {name}.")
        return self

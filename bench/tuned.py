"""Choosing an attack's settings without an oracle: each is tried on the attacker's own held-out images."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from .attack import Attack, Work
from .params import Params
from .pixels import to_float
from .plugins import ATTACKS
from .split import SplitInfo
from .view import View

if TYPE_CHECKING:
    from .work import Job

VERSION = 1
"""Raised when settings are drawn or compared in another way; part of the keys of tuned attacks."""

IMAGES = 64
"""Auxiliary validation images, at most, on which settings are compared."""


class Tuned(Attack):
    """Tries settings of an attack on images of ``aux_val`` as if they were private, and attacks with the best.

    The fits of the settings are nodes of their own, so a setting that is also attacked alone is fitted once. Compared is the
    mean squared error; the first, the given one, wins ties. A setting that diverges is not chosen; if the given one's fit does,
    the attack fails. Own images are the attacker's: no private image is involved.

    Args:
        name: registry name of the attack.
        settings: validated parameters to try, the given ones first.
        adaptive: of all settings alike.
    """

    def __init__(self, name: str, settings: Sequence[Params], adaptive: bool = True) -> None:
        super().__init__(settings[0])
        cls = ATTACKS.get(name)
        self.name, self.adaptive, self.tried = name, adaptive, [cls(p) for p in settings]
        self.requires, self.uses, self.uses_draws = cls.requires, cls.uses, cls.uses_draws  # type: ignore[misc]
        self.expected = cls.expected  # type: ignore[misc]
        for attack in self.tried:
            attack.name, attack.adaptive = name, adaptive

    def supports(self, architecture: SplitInfo, defense_parts: Sequence[tuple[str, Mapping[str, Any]]]) -> str | None:
        return self.tried[0].supports(architecture, defense_parts)

    def builds_on(self) -> dict[str, tuple[str, dict[str, Any]]]:
        out = {}
        for number, attack in enumerate(self.tried):
            if attack.has_fit():
                out[f"{number}"] = (self.name, attack.params.dump())
            out |= {f"{number}.{role}": spec for role, spec in attack.builds_on().items()}
        return out

    def fit(self, view: View) -> dict[str, torch.Tensor]:
        count = view.affordable(min(IMAGES, len(view.aux_val)))
        if not count:  # what the settings build on has spent the budget: the given one attacks
            view.note(tried=0, chosen=self.params.dump())
            return {"chosen": torch.tensor(0)}
        own = to_float(view.aux_val.images[:count].to(view.device))
        errors = []
        for number in range(len(self.tried)):
            errors.append(self._error(view, number, own) if self._fitted(view, number) else math.inf)
        if not any(map(math.isfinite, errors)):
            raise ValueError(f"none of the {len(errors)} settings gave images whose pixels are numbers")
        best = min(range(len(errors)), key=lambda n: errors[n] if math.isfinite(errors[n]) else math.inf)
        view.note(tried=len(errors), aux_val_mse=errors, chosen=self.tried[best].params.dump())
        return {"chosen": torch.tensor(best)}

    def reconstruct(self, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
        return self._attack(view, int(fitted["chosen"]))

    def work(
        self, n_private: int, n_aux: int, image_shape: tuple[int, int, int], feature_shape: tuple[int, ...]
    ) -> Work:
        sizes = (n_aux, image_shape, feature_shape)
        if n_private:
            return self.tried[0].work(n_private, *sizes)
        both = [(a.work(IMAGES, *sizes), a.work(0, *sizes)) for a in self.tried]
        return Work(
            edge_passes=sum(with_.edge_passes - fit.edge_passes for with_, fit in both),
            gflop=sum(with_.gflop - fit.gflop for with_, fit in both),
        )

    def _fitted(self, view: View, number: int) -> bool:
        """Says whether all that a setting builds on is there: the fit of one that diverges is not."""
        return all(r in view.fits for r in self.builds_on() if r.partition(".")[0] == f"{number}")

    def _error(self, view: View, number: int, own: torch.Tensor) -> float:
        try:
            guess = self._attack(view.rehearsal(own, "tuning"), number)
        except FloatingPointError:
            return math.inf
        return float((guess - own).square().mean())

    def _attack(self, view: View, number: int) -> torch.Tensor:
        prefix = f"{number}."
        fits = {role.removeprefix(prefix): t for role, t in view.fits.items() if role.startswith(prefix)}
        return self.tried[number].reconstruct(view.with_fits(fits), view.fits.get(f"{number}", {}))


def one_of_many(job: Job, fit: str) -> bool:
    """Says whether a fit serves settings alone that a tuned attack tries beside the given one, so that it can do without.

    Within a budget of queries it cannot: what the setting has asked before it failed is not known.
    """
    identity = job.identity
    roles = [role for role, key in identity.get("builds_on", {}).items() if key == fit]
    tuned = "tune" in identity.get("attack", {}) and identity["knowledge"]["queries"] is None
    return tuned and bool(roles) and all(role.partition(".")[0] != "0" for role in roles)


def make_attack(name: str, params: Mapping[str, Any], tune: int = 1, adaptive: bool = True) -> Attack:
    """Returns an attack with given parameters, or one that tries several settings if it has any to try.

    Args:
        name: registry name.
        params: its parameters.
        tune: settings to try, the given ones among them.
        adaptive: whether it takes the defense into account.
    """
    cls = ATTACKS.get(name)
    # Settings are compared by the error of reconstructions, which attacks on labels have none of.
    settings = settings_of(name, cls.Params(**params), tune if cls.infers == "image" else 1)
    made = cls(settings[0]) if len(settings) == 1 else Tuned(name, settings, adaptive)
    made.name, made.adaptive = name, adaptive
    return made


def settings_of(name: str, given: Params, tune: int) -> list[Params]:
    """Returns the given parameters and as many others as are asked for, drawn from what the attack says may be tried.

    The draw depends on the attack's name alone, so more settings begin with the same first ones.
    """
    search: Mapping[str, Sequence[Any]] = ATTACKS.get(name).search
    model = type(given)
    all_of_them = [
        model(**{**given.dump(), **dict(zip(search, values, strict=True))})
        for values in itertools.product(*search.values())
    ]
    others = [p for p in all_of_them if p != given] if search else []
    random.Random(f"tune {name}").shuffle(others)
    return [given, *others[: tune - 1]]


def attack_of(spec: Mapping[str, Any]) -> Attack:
    """Returns the attack that an identity names: ``name``, ``params``, the other settings if it is tuned, ``adaptive``."""
    cls, name, adaptive = ATTACKS.get(spec["name"]), spec["name"], spec.get("adaptive", True)
    given = cls.Params(**spec["params"])
    made = (
        cls(given) if "tune" not in spec else Tuned(name, [given, *(cls.Params(**p) for p in spec["tune"])], adaptive)
    )
    made.name, made.adaptive = name, adaptive
    return made

"""What a defense sends on average, with gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch

from splitaudit.view import View


def averaged_expectation(
    expectation: Callable[[torch.Tensor, torch.Generator], torch.Tensor | None],
    clean: torch.Tensor,
    g: torch.Generator,
    draws: int,
) -> torch.Tensor | None:
    """Returns what is sent on average for clean features (N, ...), over draws of what is random in it; None: not known.

    Args:
        expectation: of the defense.
        clean: the edge's output, (N, ...).
        g: gives the draws.
        draws: how many.
    """
    total = expectation(clean, g)
    for _ in range(draws - 1):
        again = expectation(clean, g)
        if total is None or again is None:
            return None
        total = total + again
    return None if total is None else total / draws


def expected_wire(
    protect: Callable[[torch.Tensor, torch.Generator], torch.Tensor],
    visible: Callable[[torch.Tensor], torch.Tensor | None] | None,
    clean: torch.Tensor,
    g: torch.Generator,
    draws: int,
) -> torch.Tensor:
    """Returns the mean of fresh draws of defended features (N, ...), element by element over those that show it.

    An attack's own draw hides other elements than the received one did: what it hides is no evidence.

    Args:
        protect: applies the defense.
        visible: says which elements of what is sent carry the edge's output; None: all do.
        clean: the edge's output, (N, ...).
        g: gives the draws.
        draws: how many.
    """

    def once() -> tuple[torch.Tensor, torch.Tensor]:
        sent = protect(clean, g)
        seen = None if visible is None else visible(sent.detach())
        return sent, sent.new_ones(()) if seen is None else seen.to(sent.dtype)

    total, count = once()
    for _ in range(draws - 1):  # one at a time: at 224 px the features of 32 draws do not fit in memory together
        sent, shown = once()
        total, count = total + sent, count + shown
    # An element that no draw shows counts as zero, so an edge output of zero is no way out of the loss.
    return total / count.clamp_min(1)


def noisy(view: View) -> bool:
    """Says whether the feature error is random: the defense is, and does not say what it sends on average."""
    if not view.stochastic:
        return False
    # Several: two draws of one image agree by chance where a few patterns are drawn from.
    image = torch.empty(16, *view.image_shape, device=view.device).uniform_(generator=view.generator("probe image"))
    with torch.no_grad():
        clean = view.edge(image)
        one, other = (view.expectation(clean, view.generator(f"probe {number}")) for number in range(2))
    return one is None or other is None or not torch.equal(one, other)

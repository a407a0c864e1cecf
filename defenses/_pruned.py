"""An edge whose channels can be pruned: masks behind its blocks, and convolutions that leave out what is masked."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import nn

from splitaudit.split import Split

MOMENTUM = 0.1
"""Weight of the newest batch in a channel's running activity."""

TINY = 1e-12
"""Added to variances under a root, for the sake of the gradient of channels that never move."""


class ChannelMask(nn.Module):
    """Sets pruned channels of maps (N, C, H, W) to zero, and keeps how much each channel moves.

    Args:
        channels: C.

    Attributes:
        mask: 1 for channels that are there, 0 for pruned ones, (C,).
        activity: running standard deviation of each channel over images and places, before the mask, (C,).
    """

    mask: torch.Tensor
    activity: torch.Tensor
    seen: torch.Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mask", torch.ones(channels))
        self.register_buffer("activity", torch.ones(channels))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self._deviation: torch.Tensor | None = None

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        self._deviation = None
        if self.training:
            deviation = (z.var((0, 2, 3), unbiased=False) + TINY).sqrt()
            with torch.no_grad():
                self.activity.copy_(deviation if self.seen == 0 else self.activity.lerp(deviation, MOMENTUM))
                self.seen += 1
            if torch.is_grad_enabled():
                self._deviation = deviation
        return z * self.mask.reshape(1, -1, 1, 1)

    def released(self) -> torch.Tensor | None:
        """Returns the deviation of each channel that is there, of the last training batch with its gradient, once."""
        deviation, self._deviation = self._deviation, None
        return None if deviation is None else deviation[self.mask > 0]

    def prune(self, count: int) -> None:
        """Prunes the least active channels until so many are gone; what is pruned stays so, and one channel stays."""
        missing = min(count, len(self.mask) - 1) - int((self.mask == 0).sum())
        if missing <= 0:
            return
        order = torch.where(self.mask > 0, self.activity, torch.inf).argsort(stable=True)
        mask = self.mask.clone()  # the old one may be part of a graph
        mask[order[:missing]] = 0
        self.mask = mask


class PrunedConv(nn.Conv2d):
    """A convolution that, in eval mode, computes nothing for pruned channels: neither from them nor of them.

    It is made from another one, whose weights it takes over. Outputs that are masked are zero.

    Args:
        conv: without groups.
        before: mask of the channels that come in, or None.
        after: mask of the channels that go out, or None.
    """

    def __init__(self, conv: nn.Conv2d, before: ChannelMask | None, after: ChannelMask | None) -> None:
        with torch.device("meta"):  # draws nothing: the weights are the other one's
            super().__init__(
                conv.in_channels,
                conv.out_channels,
                (conv.kernel_size[0], conv.kernel_size[1]),
                (conv.stride[0], conv.stride[1]),
                conv.padding if isinstance(conv.padding, str) else (conv.padding[0], conv.padding[1]),
                (conv.dilation[0], conv.dilation[1]),
                bias=conv.bias is not None,
                padding_mode=conv.padding_mode,
            )
        self.weight, self.bias = conv.weight, conv.bias
        # In tuples: the masks are blocks of the edge, and no parts of this one.
        self.before, self.after = (before,), (after,)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        (before,), (after,) = self.before, self.after
        # On the device meta, where a plan tries targets on, no mask has values: shapes are the same with all channels.
        if self.training or input.is_meta:
            out = super().forward(input)
            return out if after is None else out * after.mask.reshape(1, -1, 1, 1)
        x, weight, bias = input, self.weight, self.bias
        if before is not None:
            there = before.mask.nonzero()[:, 0]
            x, weight = x[:, there], weight[:, there]
        if after is None:
            return self._conv_forward(x, weight, bias)
        there = after.mask.nonzero()[:, 0]
        out = self._conv_forward(x, weight[there], None if bias is None else bias[there])
        whole = torch.zeros(len(out), self.out_channels, *out.shape[2:], dtype=out.dtype, device=out.device)
        return whole.index_copy(1, there, out)


def prunable(split: Split) -> tuple[Split, list[ChannelMask]]:
    """Returns the split with a mask behind each block of the edge that ends in maps of a convolution, and the masks.

    Nothing is pruned yet. Convolutions that read a block's input, or write its output, leave pruned channels out.
    """
    x = torch.full((2, *split.info.image_shape), 0.5)
    edge: OrderedDict[str, nn.Module] = OrderedDict()
    masks: list[ChannelMask] = []
    before: ChannelMask | None = None
    modes = [(m, m.training) for m in split.edge.modules()]
    split.edge.eval()
    for name, block in split.edge.named_children():
        x, first, last = _traced(block, x)
        has_conv = any(isinstance(m, nn.Conv2d) for m in block.modules())
        after = ChannelMask(x.shape[1]) if has_conv and x.ndim == 4 else None
        edge[name] = _replaced(block, first if before else set(), last if after else set(), before, after)
        if after is not None:
            edge[f"{name}_kept"] = after
            masks.append(after)
        # Pooling and activations leave a channel of zeros as it is; whatever has weights may not.
        elif x.ndim != 4 or any(True for _ in block.parameters()):
            before = None
        before = after or before
    for module, training in modes:
        module.training = training
    return Split(split.info, nn.Sequential(edge), split.cloud), masks


def channel_sparsity(deviation: torch.Tensor) -> torch.Tensor:
    """Returns mean_c s_c / √(mean_c s_c²), a scalar between 1/√C (one channel moves) and 1 (all move alike).

    A group lasso over channels that does not see their common scale.

    Args:
        deviation: s, of each channel, (C,).
    """
    return deviation.mean() / deviation.square().mean().sqrt()


def spectral_norm(conv: nn.Conv2d, norm: nn.modules.batchnorm._BatchNorm | None) -> torch.Tensor:
    """Returns the largest singular value of a convolution's kernel as a matrix (out, in·k·k), norm included; a scalar.

    The batch norm behind it divides by its running deviation and multiplies by its weight. Then the scale of a row of the
    kernel changes nothing of the network, and the gradient leaves it alone. The convolution's own Lipschitz constant is at
    most √(k·k) times this.

    Args:
        conv: the convolution.
        norm: the batch norm that follows it, or None.
    """
    rows = conv.weight.flatten(1)
    if norm is not None and norm.running_var is not None:
        size = rows.norm(dim=1, keepdim=True).clamp_min(TINY)
        rows = rows / size * size.detach() / (norm.running_var + norm.eps).sqrt()[:, None]
        rows = rows if norm.weight is None else rows * norm.weight[:, None]
    gram = rows @ rows.T if rows.shape[0] <= rows.shape[1] else rows.T @ rows
    return torch.linalg.eigvalsh(gram)[-1].clamp_min(TINY).sqrt()


def layers_of(edge: nn.Module) -> list[tuple[nn.Conv2d, nn.modules.batchnorm._BatchNorm | None]]:
    """Returns an edge's convolutions, each with the batch norm that stands right behind it, or None."""
    leaves = [m for m in edge.modules() if not any(True for _ in m.children())]
    found = []
    for module, behind in zip(leaves, [*leaves[1:], None], strict=True):
        if isinstance(module, nn.Conv2d):
            fits = isinstance(behind, nn.modules.batchnorm._BatchNorm) and behind.num_features == module.out_channels
            found.append((module, behind if fits else None))
    return found


def _traced(block: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, set[str], set[str]]:
    """Returns a block's output, and the names of the convolutions that read its input and of those that write its output."""
    x = x.detach().requires_grad_(True)
    passed: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def noted(name: str) -> Any:
        return lambda _, given, out: passed.__setitem__(name, (given[0], out))

    convs = {n: m for n, m in block.named_modules() if isinstance(m, nn.Conv2d) and m.groups == 1}
    every = {n: m for n, m in block.named_modules() if isinstance(m, nn.Conv2d)}
    hooks = [m.register_forward_hook(noted(n)) for n, m in every.items()]
    out = block(x)
    for hook in hooks:
        hook.remove()
    first = {n for n in convs if n in passed and passed[n][0] is x}

    def feeds(name: str) -> bool:
        """Says whether another convolution reads what comes of this one."""
        later = [given.sum() for other, (given, _) in passed.items() if other != name]
        made = passed[name][1]
        return any(torch.autograd.grad(g, made, retain_graph=True, allow_unused=True)[0] is not None for g in later)

    fitting = {n for n, m in convs.items() if n in passed and out.ndim == 4 and m.out_channels == out.shape[1]}
    return out.detach(), first, {n for n in fitting if not feeds(n)}


def _replaced(
    block: nn.Module, first: set[str], last: set[str], before: ChannelMask | None, after: ChannelMask | None
) -> nn.Module:
    """Returns the block with its first and last convolutions replaced."""
    for name in first | last:
        conv: Any = block.get_submodule(name)
        made = PrunedConv(conv, before if name in first else None, after if name in last else None)
        if not name:
            return made
        parent, _, own = name.rpartition(".")
        setattr(block.get_submodule(parent), own, made)
    return block

"""SiftFunnel's two halves, at any width and image size, with or without their parts."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from splitaudit.errors import Unsupported
from splitaudit.nn.attention import CBAM, SqueezeExcite, TripletAttention
from splitaudit.split import Split

from ._siftfunnel_designs import DESIGNS, Blocks, Design, Discarded, funnel_block, lift_block


def sift(split: Split, wire_channels: int | None, attention: bool, funnel: bool, keep_dead_layer: bool) -> Split:
    """Returns the split with SiftFunnel's edge and cloud.

    Everything is drawn in one order, with the funnel and with attention, and only then left out: ablations of one seed
    start from the same weights wherever they have the same modules.

    Args:
        split: the undefended halves.
        wire_channels: channels on the wire, or None for the published ones in proportion to the width.
        attention: keep the attention modules.
        funnel: keep the funnel and the lift. Without them attention stands at the places that the backbone's own edge
            has, and on its wide wire.
        keep_dead_layer: ResNet alone: also run layer1 on the edge and throw its result away.

    Raises:
        Unsupported: if a dead layer is asked for that the backbone's published edge does not have.
    """
    design = DESIGNS[split.info.backbone]
    own: Blocks = OrderedDict(split.edge.named_children())
    if keep_dead_layer and "layer1_block1" not in own:
        raise Unsupported(
            f"keep_dead_layer: the published edge of '{split.info.backbone}' has no dead layer. Leave it out."
        )
    narrow = _narrow(split, design, own, wire_channels)
    edge, cloud = narrow if funnel else _wide(split, design, own, *narrow)
    if funnel and not design.biases:
        _drop_biases(edge)
    if keep_dead_layer:
        layer = nn.Sequential(own["layer1_block1"], own["layer1_block2"])
        edge = _inserted(edge, "stem", "dead_layer", Discarded(layer))
    if not attention:
        edge, cloud = _without_attention(edge), _without_attention(cloud)
    return Split(split.info, nn.Sequential(edge), nn.Sequential(cloud))


def _narrow(split: Split, design: Design, own: Blocks, wire_channels: int | None) -> tuple[Blocks, Blocks]:
    width = int(split.info.params["width"])
    wire = wire_channels or max(1, design.wire * width // 64)
    edge: Blocks = OrderedDict()
    for name, block in design.trunk(own, width).items():
        edge[name] = block
        edge |= _attention_after(name, design, width)
    edge["funnel"] = funnel_block(design.entry(width), wire, design.pool)
    edge |= _attention_on_the_wire(wire, design)
    cloud: Blocks = OrderedDict(lift=lift_block(wire, design.lifted * width), lift_triplet=TripletAttention())
    cloud.update((n, b) for n, b in split.cloud.named_children() if n not in design.absorbed)
    return edge, cloud


def _wide(
    split: Split, design: Design, own: Blocks, narrow_edge: Blocks, narrow_cloud: Blocks
) -> tuple[Blocks, Blocks]:
    edge: Blocks = OrderedDict()
    for name, block in own.items():
        edge[name] = block
        edge.update((n, narrow_edge[n]) for n in (f"{name}_se", f"{name}_triplet") if n in narrow_edge)
    edge |= _attention_on_the_wire(split.feature_shape()[0], design)
    cloud: Blocks = OrderedDict(lift_triplet=narrow_cloud["lift_triplet"])
    cloud.update(split.cloud.named_children())
    return edge, cloud


def _attention_after(block: str, design: Design, width: int) -> Blocks:
    if block not in design.attention:
        return OrderedDict()
    multiple, reduction = design.attention[block]
    channels = multiple * width
    return OrderedDict(
        [
            (f"{block}_se", SqueezeExcite(channels, _hidden(channels, multiple * 64, reduction))),
            (f"{block}_triplet", TripletAttention()),
        ]
    )


def _attention_on_the_wire(channels: int, design: Design) -> Blocks:
    squeeze, cbam = (_hidden(channels, design.wire, r) for r in design.reductions)
    return OrderedDict(wire_se=SqueezeExcite(channels, squeeze), wire_cbam=CBAM(channels, cbam))


def _hidden(channels: int, published_channels: int, reduction: int) -> int:
    """Returns the width inside an attention module: in proportion, at least as published, at most the channels.

    In proportion alone it would be one or none below width 64, and a single rectified unit that starts dead never learns:
    the module would be a constant.
    """
    return min(channels, max(published_channels // reduction, channels // reduction))


def _without_attention(blocks: Blocks) -> Blocks:
    kinds = (SqueezeExcite, TripletAttention, CBAM)
    return OrderedDict((n, b) for n, b in blocks.items() if not isinstance(b, kinds))


def _inserted(blocks: Blocks, after: str, name: str, block: nn.Module) -> Blocks:
    out: Blocks = OrderedDict()
    for n, b in blocks.items():
        out[n] = b
        if n == after:
            out[name] = block
    return out


def _drop_biases(edge: Blocks) -> None:
    # The published VGG edge has none in front of its batch norms, which would cancel them; the undefended one has.
    for name, block in edge.items():
        if name.startswith("conv"):
            block.get_submodule("conv").register_parameter("bias", None)

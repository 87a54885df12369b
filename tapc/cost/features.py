"""What a kernel's instructions and code bytes are linear in: how often each part of its loop nest runs.

The loops are known exactly, so the counts are too; a fit only has to find how many instructions one run of each
part takes on a core. Keys name a part and whatever changes its code.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tapc.cost import dsp, mve, scalar
from tapc.cost.windows import Features, inside_taps
from tapc.kernels.attention import AttentionSpec
from tapc.kernels.conv import ConvSpec
from tapc.kernels.depthwise import DepthwiseSpec
from tapc.kernels.dsp.conv import DspConv
from tapc.kernels.dsp.depthwise import DspDepthwise
from tapc.kernels.elementwise import AddSpec, MoveSpec, SoftmaxSpec
from tapc.kernels.layer_norm import LayerNormSpec
from tapc.kernels.lookup import LookupSpec
from tapc.kernels.mve.conv import MveConv
from tapc.kernels.mve.depthwise import MveDepthwise
from tapc.kernels.pool import PoolSpec
from tapc.kernels.pooled import PooledSpec
from tapc.kernels.scalar.conv import ScalarConv
from tapc.kernels.scalar.depthwise import ScalarDepthwise
from tapc.kernels.spec import KernelSpec

__all__ = ["Features", "code_features", "instruction_features"]

# Form -> how often its parts run, and the parts of its machine code.
_FORMS: dict[type, tuple[Callable[[Any], Features], Callable[[Any], Features]]] = {
    DspConv: (dsp.conv, dsp.conv_code),
    DspDepthwise: (dsp.depthwise, dsp.depthwise_code),
    MveConv: (mve.conv, mve.conv_code),
    MveDepthwise: (mve.depthwise, mve.depthwise_code),
    ScalarConv: (scalar.conv, scalar.conv_code),
    ScalarDepthwise: (scalar.depthwise, scalar.depthwise_code),
}


def instruction_features(spec: KernelSpec) -> Features:
    """Return how often each part of a kernel runs.

    Parameters
    ----------
    spec : KernelSpec

    Returns
    -------
    dict of str to float
        Part -> executions in one call.
    """
    if isinstance(spec, ConvSpec | DepthwiseSpec):
        return _FORMS[type(spec.form)][0](spec.form)
    if isinstance(spec, PooledSpec):
        whole, pool = _parts(spec)
        features = instruction_features(whole)
        for part, count in instruction_features(pool).items():
            features[part] = features.get(part, 0) + count
        return features | {"call": 1 + 2 * spec.y.height}
    if isinstance(spec, PoolSpec):
        return _window(spec, f"pool_{spec.op}{'_inside' if spec.inside else ''}_a{spec.x.bits}")
    if isinstance(spec, SoftmaxSpec):
        count = spec.x.pixels * spec.x.channels
        return {f"softmax_a{spec.x.bits}o{spec.y.bits}": count, "softmax_pixel": spec.x.pixels, "call": 1}
    if isinstance(spec, AddSpec):
        count = spec.y.pixels * spec.y.channels
        form = f"{spec.form}{spec.a.bits}{spec.r.bits}{spec.y.bits}{'c' if spec.clamped else ''}"
        loops = count / spec.unroll if spec.whole else 0
        return {f"add_{form}": count, "add_loop": loops, "add_pixel": 0 if spec.whole else spec.y.pixels, "call": 1}
    if isinstance(spec, LayerNormSpec):
        count = spec.x.pixels * spec.x.channels
        return {"layernorm_code": count, "layernorm_pixel": spec.x.pixels, "call": 1}
    if isinstance(spec, LookupSpec):
        return {"lookup_code": spec.x.pixels * spec.x.channels, "call": 1}
    if isinstance(spec, AttentionSpec):
        rows, tokens = spec.heads * spec.x.pixels, spec.x.pixels
        parts = {"attention_mac": 2 * rows * tokens * spec.width, "attention_score": rows * tokens}
        return {**parts, "attention_code": rows * spec.width, "attention_row": rows, "call": 1}
    if isinstance(spec, MoveSpec):
        count = spec.x.pixels * spec.x.channels
        parts = {f"move_{spec.order}_a{spec.x.bits}o{spec.y.bits}": count, f"move_{spec.order}_pixel": spec.x.pixels}
        fill = {f"fill_o{spec.y.bits}": spec.y.pixels * spec.y.channels, "fill_pixel": spec.y.pixels}
        return {**parts, **(fill if spec.fill else {}), "call": 1}
    raise TypeError(f"no cost features for {type(spec).__name__}")


def _window(spec: PoolSpec, part: str) -> Features:
    """Count the parts of a kernel that visits each window once per channel."""
    rows, taps = inside_taps(spec.x, spec.y, spec.window)
    channels = spec.y.channels
    # A short row of a known length is spelled out by the compiler.
    size = f"{spec.window.height}x{spec.window.width}" if spec.inside and spec.window.width < 4 else ""
    return {
        f"{part}_tap": taps * channels,
        f"{part}_row{size}": rows * channels,
        f"{part}_code_o{spec.y.bits}": spec.y.pixels * channels,
        "window_pixel": spec.y.pixels,
        "call": 1,
    }


def _parts(spec: PooledSpec) -> tuple[ConvSpec, PoolSpec]:
    """Return kernels that do the same all at once, on the lines that the pooling reads."""
    height = spec.y.height * spec.height
    conv = replace(spec.conv, y=replace(spec.conv.y, height=height), lines=0)
    window = replace(spec.pool.window, stride_y=spec.height)
    return conv, replace(spec.pool, x=conv.y, y=spec.y, window=window)


def code_features(spec: KernelSpec) -> Features:
    """Return the parts of a kernel's machine code: 1 for each part that it has."""
    if isinstance(spec, ConvSpec | DepthwiseSpec):
        return _FORMS[type(spec.form)][1](spec.form)
    if isinstance(spec, PooledSpec):
        whole, pool = _parts(spec)
        return code_features(whole) | code_features(pool)
    if isinstance(spec, AddSpec):
        form = f"{spec.form}{'c' if spec.clamped else ''}"
        narrow = (spec.a.bits == 4) + (spec.r.bits == 4)
        return {f"code_add_{form}": spec.unroll, "code_add_a4": narrow, f"code_add_o{spec.y.bits}": 1}
    if isinstance(spec, PoolSpec):
        clip = 0 if spec.inside else 1
        return {
            f"code_{spec.op}pool": 1,
            f"code_pool_a{spec.x.bits}": 1,
            f"code_pool_o{spec.y.bits}": 1,
            "code_clip": clip,
        }
    if isinstance(spec, MoveSpec):
        parts = {f"code_move_{spec.order}": 1, f"code_move_a{spec.x.bits}": 1, f"code_move_o{spec.y.bits}": 1}
        return {**parts, f"code_fill_o{spec.y.bits}": spec.fill}
    return {f"code_{spec.kind}": 1}

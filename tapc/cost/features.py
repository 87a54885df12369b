"""What a kernel's instructions and code bytes are linear in: how often each part of its loop nest runs.

The loops are known exactly, so the counts are too; a fit only has to find how many instructions one run of each
part takes on a core. Keys name a part and whatever changes its code.
"""

from collections.abc import Iterator

from tapc.kernels.conv import CHANNEL_TILE, ConvSpec, Window
from tapc.kernels.depthwise import DepthwiseSpec
from tapc.kernels.elementwise import AddSpec, MoveSpec, SoftmaxSpec
from tapc.kernels.layout import Plane
from tapc.kernels.packing import weights_per_word
from tapc.kernels.pool import PoolSpec
from tapc.lower.steps import Spec

Features = dict[str, float]


def _inside(extent: int, count: int, size: int, stride: int, before: int) -> Iterator[int]:
    """Yield, for each output position of an axis, how many taps lie inside the input."""
    for i in range(count):
        start = i * stride - before
        yield min(size, extent - start) - max(0, -start)


def inside_taps(x: Plane, y: Plane, window: Window) -> tuple[int, int]:
    """Return (window rows, taps) that lie inside the image, summed over all output pixels."""
    rows = sum(_inside(x.height, y.height, window.height, window.stride_y, window.top))
    columns = sum(_inside(x.width, y.width, window.width, window.stride_x, window.left))
    return rows * y.width, rows * columns


def instruction_features(spec: Spec) -> Features:
    """Return how often each part of a kernel runs.

    Parameters
    ----------
    spec : Spec

    Returns
    -------
    dict of str to float
        Part -> executions in one call.
    """
    if isinstance(spec, ConvSpec):
        return _conv(spec)
    if isinstance(spec, DepthwiseSpec):
        multiplied = "m" if spec.y.channels != spec.x.channels else ""
        return _window(spec, f"depthwise{multiplied}_w{spec.w_bits}a{spec.x.bits}")
    if isinstance(spec, PoolSpec):
        return _window(spec, f"pool_{spec.op}_a{spec.x.bits}")
    if isinstance(spec, SoftmaxSpec):
        return {f"softmax_a{spec.x.bits}o{spec.y.bits}": spec.x.pixels * spec.x.channels, "call": 1}
    if isinstance(spec, AddSpec):
        return {f"add_a{spec.a.bits}r{spec.r.bits}o{spec.y.bits}": spec.y.pixels * spec.y.channels, "call": 1}
    if isinstance(spec, MoveSpec):
        count = spec.x.pixels * spec.x.channels
        fill = {f"fill_o{spec.y.bits}": spec.y.pixels * spec.y.channels} if spec.fill else {}
        return {f"move_{spec.order}_a{spec.x.bits}o{spec.y.bits}": count, **fill, "call": 1}
    raise TypeError(f"no cost features for {type(spec).__name__}")


def _window(spec: DepthwiseSpec | PoolSpec, part: str) -> Features:
    """Count the parts of a kernel that visits each window once per channel."""
    rows, taps = inside_taps(spec.x, spec.y, spec.window)
    channels = spec.y.channels
    return {
        f"{part}_tap": taps * channels,
        f"{part}_row": rows * channels,
        f"{part}_code_o{spec.y.bits}": spec.y.pixels * channels,
        "window_pixel": spec.y.pixels,
        "call": 1,
    }


def _conv(spec: ConvSpec) -> Features:
    tile = spec.pixel_tile
    steps = -(-spec.y.pixels // tile) * spec.groups
    slots = steps * tile
    all_taps = spec.window.height * spec.window.width
    inside = inside_taps(spec.x, spec.y, spec.window)[1] / spec.y.pixels
    words = spec.padded_taps // weights_per_word(spec.w_bits)
    blocks = steps * -(-spec.group_outputs // CHANNEL_TILE)
    copy = f"a{spec.x.bits}{'half' if spec.chunk == 1 else 'word'}t{tile}"
    checked = inside < all_taps
    loads = spec.group_inputs // spec.chunk
    odd = "odd" if spec.group_outputs % CHANNEL_TILE else ""
    residual = f"r{spec.residual_bits}" if spec.residual_bits else ""
    features: Features = {
        f"multiply_w{spec.w_bits}t{tile}u{spec.unroll}": blocks * words,
        f"block_w{spec.w_bits}o{spec.y.bits}{residual}t{tile}{odd}": blocks,
        f"copy_{copy}": slots * inside * loads,
        f"tap_{copy}{'checked' if checked else ''}": slots * inside,
        f"pixel_t{tile}": slots,
        "group": spec.groups,
        "call": 1,
    }
    if checked:
        outside = slots * (all_taps - inside)
        features[f"pad_{copy}"] = outside * (spec.group_inputs if spec.chunk == 1 else spec.group_inputs / 2)
        features[f"outside_{copy}"] = outside
    if spec.w_bits < 8:
        features[f"sum_t{tile}"] = steps * spec.padded_taps / 2
    return features


def code_features(spec: Spec) -> Features:
    """Return the parts of a kernel's machine code: 1 for each part that it has."""
    if isinstance(spec, ConvSpec):
        tile = spec.pixel_tile
        copy = f"code_copy_a{spec.x.bits}{'half' if spec.chunk == 1 else 'word'}t{tile}"
        inside = inside_taps(spec.x, spec.y, spec.window)[1] == spec.y.pixels * spec.window.height * spec.window.width
        odd = "odd" if spec.group_outputs % CHANNEL_TILE else ""
        residual = f"r{spec.residual_bits}" if spec.residual_bits else ""
        single = "point" if spec.window.height * spec.window.width == 1 else ""
        features: Features = {
            f"{copy}{'' if inside else 'checked'}{single}": 1,
            f"code_multiply_w{spec.w_bits}t{tile}u{spec.unroll}": 1,
            f"code_block_o{spec.y.bits}{residual}t{tile}{odd}": 1,
        }
        features |= {"code_grouped": 1} if spec.groups > 1 else {}
        features |= {"code_tail": 1} if spec.padded_taps // 2 > spec.taps // 2 else {}
        features |= {"code_odd_pixels": 1} if spec.y.pixels % tile else {}
        return features
    if isinstance(spec, DepthwiseSpec):
        multiplied = "m" if spec.y.channels != spec.x.channels else ""
        return {f"code_depthwise{multiplied}_w{spec.w_bits}a{spec.x.bits}o{spec.y.bits}": 1}
    return {f"code_{spec.kind}": 1}

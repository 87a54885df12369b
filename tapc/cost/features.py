"""What a kernel's instructions and code bytes are linear in: how often each part of its loop nest runs.

The loops are known exactly, so the counts are too; a fit only has to find how many instructions one run of each
part takes on a core. Keys name a part and whatever changes its code.
"""

from collections.abc import Iterator

from tapc.kernels.columns import Window
from tapc.kernels.conv import ConvSpec
from tapc.kernels.depthwise import DepthwiseSpec
from tapc.kernels.elementwise import AddSpec, MoveSpec, SoftmaxSpec
from tapc.kernels.layout import Plane
from tapc.kernels.pool import PoolSpec
from tapc.kernels.schedule import largest_divisor
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


def whole_windows(x: Plane, y: Plane, window: Window) -> int:
    """Return how many windows lie inside the image."""
    rows = _inside(x.height, y.height, window.height, window.stride_y, window.top)
    columns = _inside(x.width, y.width, window.width, window.stride_x, window.left)
    return sum(n == window.height for n in rows) * sum(n == window.width for n in columns)


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
        return _depthwise(spec)
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


def _window(spec: PoolSpec, part: str) -> Features:
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


def _depthwise(spec: DepthwiseSpec) -> Features:
    """Count expansion, unpacking, products and results of all channels."""
    height, width = spec.filled
    y, window = spec.y, spec.window
    pairs, single = y.channels * y.height * (y.width // 2), y.channels * y.height * (y.width % 2)
    shape = f"{window.height}x{window.width}s{window.stride_x}"
    clamped = "c" if spec.clamped else ""
    return {
        f"expand_a{spec.x.bits}": spec.x.channels * height * width,
        "expand_row": spec.x.channels * height,
        "border": spec.scratch_bytes / 4 if (height, width) != (spec.rows, spec.pitch) else 0,
        f"unpack_w{spec.w_bits}": y.channels * spec.taps,
        f"products_{shape}n2": pairs,
        f"products_{shape}n1": single,
        f"codes_o{y.bits}{clamped}": 2 * pairs + single,
        "depthwise_row": y.channels * y.height,
        "depthwise_channel": y.channels,
        "call": 1,
    }


def _conv(spec: ConvSpec) -> Features:
    columns, schedule = spec.columns, spec.schedule
    tile = schedule.pixels
    steps = -(-spec.y.pixels // tile) * spec.groups
    slots = steps * tile
    window, kind = spec.window, columns.kind
    inside = inside_taps(spec.x, spec.y, window)[1] / spec.y.pixels
    whole = whole_windows(spec.x, spec.y, window) / spec.y.pixels
    blocks = steps * -(-spec.group_outputs // schedule.rows)
    odd = "odd" if spec.group_outputs % schedule.rows else ""
    residual = f"r{spec.residual_bits}" if spec.residual_bits else ""
    summed = "s" if spec.w_bits < 8 else ""
    quads = columns.run * columns.source_bits // 32 * columns.runs
    single = columns.run % 4 * columns.runs if kind != "words" else 0
    clamped = "c" if spec.clamped else ""
    outer = spec.words // schedule.unroll
    load = f"a{columns.source_bits}{summed}t{tile}"
    features: Features = {
        f"multiply_w{spec.w_bits}r{schedule.rows}t{tile}": blocks * spec.words,
        f"loop_r{schedule.rows}t{tile}": blocks * outer,
        f"block_o{spec.y.bits}{residual}{clamped}r{schedule.rows}t{tile}{odd}{summed}": blocks,
        f"pixel_{kind}{summed}t{tile}{'point' if window.taps == 1 else ''}": slots,
        f"load_{load}": slots * quads * (whole if kind == "words" else 1),
        f"run_{load}": slots * columns.runs * (whole if kind == "words" else 1),
        f"single_{load}": slots * single,
        "group": spec.groups,
        "call": 1,
    }
    if kind == "words" and whole < 1:
        outside = slots * (window.taps - inside)
        partly = slots * (inside - whole * window.taps)
        features[f"tapload_{load}"] = partly * columns.depth * columns.x.bits / 32
        features[f"tap_{load}"] = partly
        features[f"pad_{load}"] = outside * columns.depth
        features[f"outside_{load}"] = outside
    gathered = slots * (1.0 if kind == "gather" else 1 - whole if kind == "runs" else 0.0)
    if gathered:
        features[f"gather_a{spec.x.bits}"] = gathered * columns.taps
        features["gather_tap"] = gathered * window.taps
    return features


def code_features(spec: Spec) -> Features:
    """Return the parts of a kernel's machine code: 1 for each part that it has."""
    if isinstance(spec, ConvSpec):
        return _conv_code(spec)
    if isinstance(spec, DepthwiseSpec):
        window = spec.window
        shape = f"{window.height}x{window.width}s{window.stride_x}n{1 + (spec.y.width > 1) + spec.y.width % 2}"
        filled = "" if spec.filled == (spec.rows, spec.pitch) else "border"
        return {
            "code_depthwise": 1,
            f"code_products_{shape}": 1,
            f"code_unpack_w{spec.w_bits}": spec.taps,
            f"code_codes_o{spec.y.bits}{'c' if spec.clamped else ''}": 1,
            f"code_expand_a{spec.x.bits}{filled}{'m' if spec.multiplier > 1 else ''}": 1,
        }
    return {f"code_{spec.kind}": 1}


def _conv_code(spec: ConvSpec) -> Features:
    columns, schedule = spec.columns, spec.schedule
    tile, kind = schedule.pixels, columns.kind
    single = columns.run % 4 * columns.runs if kind != "words" else 0
    quads = columns.run * columns.source_bits // 32
    odd = "odd" if spec.group_outputs % schedule.rows else ""
    residual = f"r{spec.residual_bits}" if spec.residual_bits else ""
    summed = "s" if spec.w_bits < 8 else ""
    features: Features = {
        f"code_column_{kind}{'' if columns.inside else 'border'}{summed}t{tile}": 1,
        f"code_load_a{columns.source_bits}{summed}t{tile}": min(quads, largest_divisor(max(quads, 1), 4)),
        f"code_single{summed}t{tile}": single,
        f"code_multiply_w{spec.w_bits}r{schedule.rows}t{tile}": schedule.unroll,
        f"code_block_o{spec.y.bits}{residual}r{schedule.rows}t{tile}{odd}{'c' if spec.clamped else ''}": 1,
        "code_clear": (columns.padded // 2 - -(-columns.taps // 2)) * tile,
    }
    features |= {"code_grouped": 1} if spec.groups > 1 else {}
    features |= {"code_odd_pixels": 1} if spec.y.pixels % tile else {}
    return features

"""Cost features of the kernels for cores without SIMD."""

from tapc.cost.windows import Features, inside_taps, whole_windows
from tapc.kernels.scalar.conv import ScalarConv
from tapc.kernels.scalar.depthwise import ScalarDepthwise


def conv(form: ScalarConv) -> Features:
    """Count columns, products and results of all tiles."""
    spec, columns, schedule = form.spec, form.columns, form.schedule
    tile = schedule.pixels
    slots = -(-spec.y.pixels // tile) * spec.groups * tile
    outputs = -(-spec.y.pixels // tile) * spec.y.channels
    whole = whole_windows(spec.x, spec.y, spec.window) / spec.y.pixels
    inside = inside_taps(spec.x, spec.y, spec.window)[1] / spec.y.pixels
    products = f"w{spec.w_bits}{'p' if form.packed else ''}t{tile}"
    load = f"a{spec.x.bits}{'h' if columns.paired else ''}{'p' if form.packed else ''}"
    border = "" if spec.window.inside(spec.x, spec.y) else "border"
    clamped = "c" if spec.clamped else ""
    residual = f"r{spec.residual_bits}{spec.sum_form}" if spec.residual_bits else ""
    partly = slots * (inside - whole * spec.window.taps)
    return {
        f"multiply_{products}": outputs * form.words,
        f"loop_{products}": outputs * form.words / schedule.unroll,
        f"run_{products}": outputs * form.words / spec.run if form.packed else 0,
        f"output_o{spec.y.bits}{residual}{clamped}t{tile}": outputs,
        f"load_{load}": slots * (whole * spec.taps + (inside - whole * spec.window.taps) * columns.depth),
        f"row_{load}": slots * whole * (spec.window.height if spec.groups == 1 else spec.window.taps),
        f"tap_{load}": partly,
        f"pad_{load}": slots * (spec.window.taps - inside) * columns.depth,
        f"pixel{border}": slots,
        "group": spec.groups,
        "call": 1,
    }


def conv_code(form: ScalarConv) -> Features:
    """Return the parts of the machine code."""
    spec, columns, schedule = form.spec, form.columns, form.schedule
    products = f"w{spec.w_bits}{'p' if form.packed else ''}t{schedule.pixels}"
    border = "" if spec.window.inside(spec.x, spec.y) else "border"
    load = f"a{spec.x.bits}{'h' if columns.paired else ''}{border}t{schedule.pixels}"
    residual = f"r{spec.residual_bits}{spec.sum_form}" if spec.residual_bits else ""
    return {
        f"code_multiply_{products}": schedule.unroll,
        f"code_column_{load}": 1,
        f"code_output_o{spec.y.bits}{residual}{'c' if spec.clamped else ''}t{schedule.pixels}": 1,
        "code_grouped": spec.groups > 1,
        "code_conv": 1,
    }


def depthwise(form: ScalarDepthwise) -> Features:
    """Count expansion, unpacking, products and results of all channels."""
    spec, y, plane = form.spec, form.spec.y, form.plane
    height, width = plane.filled
    outputs = y.pixels * y.channels
    return {
        f"expand_a{spec.x.bits}": spec.x.channels * height * width,
        "expand_row": spec.x.channels * height,
        "border": plane.pixels if plane.bordered else 0,
        f"unpack_w{spec.w_bits}": y.channels * spec.taps,
        "depthwise_products": outputs * spec.taps,
        f"depthwise_output_o{y.bits}{'c' if spec.clamped else ''}": outputs,
        "depthwise_row": y.channels * y.height,
        "depthwise_channel": y.channels,
        "call": 1,
    }


def depthwise_code(form: ScalarDepthwise) -> Features:
    """Return the parts of the machine code."""
    spec = form.spec
    return {
        "code_depthwise": 1,
        "code_depthwise_products": spec.taps,
        f"code_unpack_w{spec.w_bits}": spec.taps,
        f"code_codes_o{spec.y.bits}{'c' if spec.clamped else ''}": 1,
        f"code_expand_a{spec.x.bits}{'border' if form.plane.bordered else ''}{'m' if spec.multiplier > 1 else ''}": 1,
    }

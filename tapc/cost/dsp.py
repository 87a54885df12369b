"""Cost features of the kernels for cores with the DSP extension."""

from tapc.cost.windows import Features, inside_taps, whole_windows
from tapc.kernels.dsp.conv import DspConv
from tapc.kernels.dsp.depthwise import DspDepthwise
from tapc.kernels.schedule import largest_divisor


def depthwise(form: DspDepthwise) -> Features:
    """Count expansion, unpacking, products and results of all channels."""
    height, width = form.plane.filled
    spec, y, window = form.spec, form.spec.y, form.spec.window
    pairs, single = y.channels * y.height * (y.width // 2), y.channels * y.height * (y.width % 2)
    shape = f"{window.height}x{window.width}s{window.stride_x}"
    clamped = "c" if spec.clamped else ""
    return {
        f"expand_a{spec.x.bits}": spec.x.channels * height * width,
        "expand_row": spec.x.channels * height,
        "border": form.scratch_bytes / 4 if form.plane.bordered else 0,
        f"unpack_w{spec.w_bits}": y.channels * spec.taps,
        f"products_{shape}n2": pairs,
        f"products_{shape}n1": single,
        f"codes_o{y.bits}{clamped}": 2 * pairs + single,
        "depthwise_row": y.channels * y.height,
        "depthwise_channel": y.channels,
        "call": 1,
    }


def conv(form: DspConv) -> Features:
    """Count columns, products and results of all tiles."""
    spec, columns, schedule = form.spec, form.columns, form.schedule
    tile = schedule.pixels
    steps = -(-spec.y.pixels // tile) * spec.groups
    slots = steps * tile
    window, kind = spec.window, columns.kind
    inside = inside_taps(spec.x, spec.y, window)[1] / spec.y.pixels
    whole = whole_windows(spec.x, spec.y, window) / spec.y.pixels
    blocks = steps * -(-spec.group_outputs // schedule.rows)
    odd = "odd" if spec.group_outputs % schedule.rows else ""
    residual = f"r{spec.residual_bits}{spec.sum_form}" if spec.residual_bits else ""
    quads = columns.run * columns.source_bits // 32 * columns.runs
    single = columns.run % 4 * columns.runs if kind != "words" else 0
    clamped = "c" if spec.clamped else ""
    outer = form.words // schedule.unroll
    load = f"a{columns.source_bits}t{tile}"
    features: Features = {
        f"multiply_w{spec.w_bits}r{schedule.rows}t{tile}": blocks * form.words,
        f"quad_w{spec.w_bits}r{schedule.rows}t{tile}": blocks * columns.padded / 4,
        f"loop_r{schedule.rows}t{tile}": blocks * outer,
        f"block_o{spec.y.bits}{residual}{clamped}r{schedule.rows}t{tile}{odd}": blocks,
        f"pixel_{kind}t{tile}{'point' if window.taps == 1 else ''}": slots,
        f"load_{load}": slots * quads * (whole if kind == "words" else 1),
        f"run_{load}": slots * columns.runs * (whole if kind == "words" else 1),
        f"single_{load}": slots * single,
        f"run_r{schedule.rows}t{tile}": blocks * -(-form.words // spec.run) if spec.run else 0,
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


def depthwise_code(form: DspDepthwise) -> Features:
    """Return the parts of the machine code."""
    spec, window = form.spec, form.spec.window
    shape = f"{window.height}x{window.width}s{window.stride_x}n{1 + (spec.y.width > 1) + spec.y.width % 2}"
    filled = "border" if form.plane.bordered else ""
    return {
        "code_depthwise": 1,
        f"code_products_{shape}": 1,
        f"code_unpack_w{spec.w_bits}": spec.taps,
        f"code_codes_o{spec.y.bits}{'c' if spec.clamped else ''}": 1,
        f"code_expand_a{spec.x.bits}{filled}{'m' if spec.multiplier > 1 else ''}": 1,
    }


def conv_code(form: DspConv) -> Features:
    """Return the parts of the machine code."""
    spec, columns, schedule = form.spec, form.columns, form.schedule
    tile, kind = schedule.pixels, columns.kind
    single = columns.run % 4 * columns.runs if kind != "words" else 0
    quads = columns.run * columns.source_bits // 32
    odd = "odd" if spec.group_outputs % schedule.rows else ""
    residual = f"r{spec.residual_bits}{spec.sum_form}" if spec.residual_bits else ""
    features: Features = {
        f"code_column_{kind}{'' if columns.inside else 'border'}t{tile}": 1,
        f"code_load_a{columns.source_bits}t{tile}": min(quads, largest_divisor(max(quads, 1), 4)),
        f"code_singlet{tile}": single,
        f"code_multiply_w{spec.w_bits}r{schedule.rows}t{tile}": schedule.unroll,
        f"code_block_o{spec.y.bits}{residual}r{schedule.rows}t{tile}{odd}{'c' if spec.clamped else ''}": 1,
        "code_clear": (columns.padded // 2 - -(-columns.taps // 2)) * tile,
    }
    features |= {"code_run": 1} if spec.run else {}
    features |= {"code_grouped": 1} if spec.groups > 1 else {}
    features |= {"code_odd_pixels": 1} if spec.y.pixels % tile else {}
    return features

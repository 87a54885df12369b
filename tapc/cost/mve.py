"""Cost features of the kernels for cores with Helium."""

from tapc.cost.windows import Features, inside_taps, whole_windows
from tapc.kernels.mve.columns import SPELLED, Columns
from tapc.kernels.mve.conv import LANES, MveConv
from tapc.kernels.mve.depthwise import MveDepthwise
from tapc.kernels.mve.intrinsics import CHUNK


def _pieces(count: int, bits: int) -> tuple[int, int]:
    """Return (vectors, narrow pieces) of a copy of `count` codes."""
    if count >= CHUNK:
        return -(-count // CHUNK), 0
    least = 4 if bits == 8 else 2
    return 0, -(-count // least) if count >= least else count


def conv(form: MveConv) -> Features:
    """Count columns, products and results of all tiles."""
    spec, columns, schedule = form.spec, form.columns, form.schedule
    tile, rows = schedule.pixels, schedule.rows
    steps = -(-spec.y.pixels // tile) * spec.groups
    (count, last), vector = form.tiles, spec.mode == "float"
    residual = f"r{spec.residual_bits}{spec.sum_form}" if spec.residual_bits else ""
    result = f"o{spec.y.bits}{residual}{'c' if spec.clamped else ''}"
    looped = form.vectors // schedule.unroll if form.vectors > schedule.unroll else 0
    products = f"w{spec.w_bits}t{tile}"
    features: Features = {
        f"multiply_{products}": steps * spec.group_outputs * form.chunks,
        f"field_{products}": steps * count * (form.vectors if looped else 0),
        f"loop_r{rows}t{tile}": steps * count * looped,
        f"block_{result}r{rows}t{tile}{'v' if vector and rows == LANES else ''}": steps * count,
        f"last_{result}r{last}t{tile}": steps if last else 0,
        f"last_{products}r{last}": steps * form.chunks if last else 0,
        f"step_t{tile}{'direct' if columns.direct else ''}": steps,
        "group": spec.groups,
        "call": 1,
    }
    return features if columns.direct else features | _columns(columns, steps * tile)


def _columns(columns: Columns, slots: int) -> Features:
    """Count the parts of im2col."""
    window, x = columns.window, columns.x
    whole = whole_windows(x, columns.y, window) / columns.y.pixels if columns.whole else 0.0
    inside = inside_taps(x, columns.y, window)[1] / columns.y.pixels
    runs = window.height * (1 if columns.groups == 1 else window.width)
    vectors, narrow = _pieces(columns.run, x.bits)
    partly, outside = slots * (inside - whole * window.taps), slots * (window.taps - inside)
    tap_vectors, tap_narrow = _pieces(columns.depth, x.bits)
    long = "loop" if columns.run // CHUNK > SPELLED else ""
    copy = f"a{x.bits}" if columns.whole else f"gather{x.bits}"
    features: Features = {
        f"pixel_{'' if columns.inside else 'border'}{copy}": slots,
        f"copy_{copy}{long}": slots * whole * runs * vectors,
        f"narrow_{copy}": slots * whole * runs * narrow,
        f"run_{copy}": slots * whole * runs,
    }
    if partly or outside:
        features |= {
            f"tap_{copy}": partly,
            f"tapcopy_{copy}": partly * tap_vectors if columns.whole else 0,
            f"tapnarrow_{copy}": partly * (tap_narrow if columns.whole else columns.depth),
            "outside": outside,
            "pad": outside * (columns.depth if columns.depth < CHUNK else -(-columns.depth // CHUNK)),
        }
    return features


def conv_code(form: MveConv) -> Features:
    """Return the parts of the machine code."""
    spec, columns, schedule = form.spec, form.columns, form.schedule
    tile, (count, last) = schedule.pixels, form.tiles
    residual = f"r{spec.residual_bits}{spec.sum_form}" if spec.residual_bits else ""
    result = f"o{spec.y.bits}{residual}{'c' if spec.clamped else ''}t{tile}"
    looped = form.vectors > schedule.unroll
    spelled = schedule.unroll * form.fields + form.rest if looped else form.chunks
    features: Features = {
        f"code_multiply_w{spec.w_bits}t{tile}": spelled * ((schedule.rows if count else 0) + last),
        f"code_block_{result}r{schedule.rows}": 1 if count else 0,
        f"code_last_{result}": last,
        f"code_loop_t{tile}": (1 if count else 0) + bool(last) if looped else 0,
        "code_grouped": spec.groups > 1,
        "code_odd_pixels": spec.y.pixels % tile != 0,
        "code_conv": 1,
    }
    if not columns.direct:
        long = columns.run // CHUNK > SPELLED
        vectors, narrow = _pieces(columns.run, columns.x.bits)
        copy = f"a{columns.x.bits}" if columns.whole else f"gather{columns.x.bits}"
        features[f"code_column_{copy}{'' if columns.inside else 'border'}"] = tile
        features[f"code_copy_{copy}"] = tile * (1 if long else vectors)
        features[f"code_narrow_{copy}"] = tile * narrow
    return features


def depthwise(form: MveDepthwise) -> Features:
    """Count the filling of the plane, products and results of all channels."""
    spec, y, window, plane = form.spec, form.y, form.window, form.plane
    height, width = plane.filled
    lanes = next((n for n in (8, 4) if n <= width), 1)
    vectors = -(-y.width // LANES)
    blocks = spec.y.channels * -(-y.height // form.lines)
    shape = f"{window.height}x{window.width}s{window.stride_y}{window.stride_x}l{form.lines}"
    clamped = "c" if spec.clamped else ""
    narrow = min(y.width, LANES) if spec.y.bits == 4 or y.width < LANES else ""
    return {
        f"fill_a{spec.x.bits}l{lanes}": spec.x.channels * height * -(-width // lanes),
        "fill_line": spec.x.channels * height,
        "border": form.scratch_bytes if plane.bordered else 0,
        f"unpack_w{spec.w_bits}": spec.y.channels * spec.taps,
        f"products_{shape}": blocks * vectors,
        f"codes_o{spec.y.bits}{clamped}{narrow}": blocks * vectors * form.lines,
        "depthwise_block": blocks,
        "depthwise_channel": spec.y.channels,
        "call": 1,
    }


def depthwise_code(form: MveDepthwise) -> Features:
    """Return the parts of the machine code."""
    spec, y, window = form.spec, form.y, form.window
    copies = (y.width >= LANES) + (y.width < LANES or y.width % LANES != 0)
    shape = f"{window.height}x{window.width}s{window.stride_y}{window.stride_x}l{form.lines}"
    narrow = min(y.width, LANES) if spec.y.bits == 4 or y.width < LANES else ""
    filled = "border" if form.plane.bordered else ""
    return {
        "code_depthwise": 1,
        f"code_products_{shape}": copies,
        f"code_unpack_w{spec.w_bits}": spec.taps,
        f"code_codes_o{spec.y.bits}{'c' if spec.clamped else ''}{narrow}": copies * form.lines,
        f"code_fill_a{spec.x.bits}{filled}{'m' if spec.multiplier > 1 else ''}": 1,
    }

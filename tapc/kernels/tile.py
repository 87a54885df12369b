"""The inner product of a convolution: a register tile of output channels x pixels, with SMLAD.

Four taps of a tile of 2 x 2 take three LDRD, four unpackings and eight SMLAD, for sixteen multiply-accumulates.
"""

from typing import TYPE_CHECKING, Any

from tapc.kernels.builder import Body
from tapc.kernels.columns import fields
from tapc.kernels.layout import Plane, add_codes, requantize
from tapc.kernels.packing import weights_per_word

if TYPE_CHECKING:
    from tapc.kernels.conv import ConvSpec


def emit(spec: "ConvSpec", b: Body) -> None:
    """Write a convolution's statements."""
    columns, pixels = spec.columns, spec.schedule.pixels
    pixel = b.array("pixel", pixels)
    total = b.array("total", pixels) if spec.w_bits < 8 and not spec.top else None
    columns.clear(b)
    with b.loop(spec.groups) as group, b.loop(-(-spec.y.pixels // pixels)) as step:
        for j in range(pixels):
            # The last tile of an image that it does not divide computes the last pixel again.
            index = step * pixels + j
            b.store(pixel, j, b.T.min(index, spec.y.pixels - 1) if spec.y.pixels % pixels and j else index)
        for j in range(pixels):
            columns.emit(b, pixel[j], j, group, total)
        if total is not None:
            for j in range(pixels):
                b.store(total, j, total[j] * -(1 << (spec.w_bits - 1)))
        _tiles(spec, b, pixel, total, group)


def _tiles(spec: "ConvSpec", b: Body, pixel: Any, total: Any, group: Any) -> None:
    """Compute all output channels of the tile's pixels."""
    rows, pixels, T = spec.schedule.rows, spec.schedule.pixels, b.T
    tiles = -(-spec.group_outputs // rows)
    acc, code = b.array("acc", rows * pixels), b.array("code", rows * pixels)
    rest = spec.group_outputs % rows
    with b.loop(tiles) as block:
        first = group * spec.group_outputs + block * rows
        last = (group + 1) * spec.group_outputs - 1

        def channel(row: int) -> Any:
            return T.min(first + row, last) if rest and row >= rest else first + row

        for row in range(rows):
            for j in range(pixels):
                bias = b["bias"][channel(row)]
                b.store(acc, row * pixels + j, bias if total is None else bias + total[j])
        _product(spec, b, acc, (group * tiles + block) * spec.words * rows)
        for row in range(rows):
            for j in range(pixels):
                index = row * pixels + j
                bits = 0 if spec.clamped else spec.y.bits
                value = requantize(b, spec.mode, acc[index], channel(row), bits)
                b.store(code, index, value)
        if spec.residual_bits:
            residual = Plane(spec.y.height, spec.y.width, spec.y.channels, spec.residual_bits)
            for row in range(rows):
                for j in range(pixels):
                    index = row * pixels + j
                    other = residual.load(b, b["r"], pixel[j], channel(row))
                    operands = (other, code[index]) if spec.residual_first else (code[index], other)
                    b.store(code, index, add_codes(b, spec.mode, *operands))

        # All codes of the tile exist before the first store: the residual may live where y is written.
        for row in range(rows):

            def write(row: int = row) -> None:
                for j in range(pixels):
                    spec.y.store(b, b["y"], pixel[j], first + row, code[row * pixels + j])

            if rest and row >= rest:
                b.when(first + row <= last, write)
            else:
                write()


def _product(spec: "ConvSpec", b: Body, acc: Any, start: Any) -> None:
    """Add the products of all taps to the accumulators; the tile's weights begin at word `start`."""
    rows, pixels, run = spec.schedule.rows, spec.schedule.pixels, spec.schedule.unroll
    groups = weights_per_word(spec.w_bits) // 4
    weights, taps, pair = b.array("weights", rows), b.array("taps", 2), b.array("pair", 1)

    def word(w: Any, col: Any, k: int, used: int) -> None:
        """Multiply the taps of the k-th word behind the pointers w and col."""
        for row in range(0, rows, 2):
            b.do("t_load2", w, k * rows + row, b.address(weights, row))
        for g in range(used):
            for half in range(2):
                place = ((k * groups + g) * 2 + half) * pixels
                if pixels == 2 or half == 0:
                    b.do("t_load2", col, place, b.address(taps, 0))
                for row in range(rows):
                    b.store(pair, 0, fields(b, weights[row], spec.w_bits, 2 * g + half, top=spec.top))
                    for j in range(pixels):
                        index = row * pixels + j
                        b.store(acc, index, b.call("t_smlad", pair[0], taps[j if pixels == 2 else half], acc[index]))

    def pointers(k: Any) -> tuple[Any, Any]:
        return b.address(b["w"], start + k * rows), b.address(b["col"], k * groups * pixels * 2)

    whole, rest = divmod(spec.columns.padded // 4, groups)
    if whole > run:
        with b.loop(whole // run) as outer:
            for k in range(run):
                word(*pointers(outer * run), k, groups)
    once = whole if whole <= run else 0  # what follows the loop, or stands alone
    for k in range(once):
        word(*pointers(0), k, groups)
    if rest:
        word(*pointers(whole - once), once, rest)

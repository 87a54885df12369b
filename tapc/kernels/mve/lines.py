"""Columns of windows that reach over the border: the lines of a row of windows are copied first, with their border."""

from dataclasses import dataclass
from typing import Any

from tapc.kernels.builder import Body
from tapc.kernels.layout import Plane
from tapc.kernels.mve.intrinsics import CHUNK
from tapc.kernels.schedule import largest_divisor
from tapc.kernels.spec import Features
from tapc.kernels.window import Window

REACH = 128  # bytes that an offset of bytes reaches
SPELLED = 4  # vectors of a copy between two tests of the loop counter


@dataclass(frozen=True)
class Lines:
    """The lines that a row of windows reads, and the columns of a tile of them behind these.

    Attributes
    ----------
    x, y : Plane
        Of bytes.
    window : Window
        Whose taps lie side by side.
    pixels : int
        Of a tile.
    chunks : int
        Vectors of a column.
    """

    x: Plane
    y: Plane
    window: Window
    pixels: int
    chunks: int

    @property
    def columns(self) -> int:
        """Columns of the image that windows reach."""
        return (self.y.width - 1) * self.window.stride_x + self.window.width

    @property
    def pitch(self) -> int:
        """Bytes of a line, whole vectors."""
        return -(-self.columns * self.x.channels // CHUNK) * CHUNK

    @property
    def filled(self) -> int:
        """Bytes of a line that the image fills."""
        return min(self.x.width, self.columns - self.window.left) * self.x.channels

    @property
    def row_taps(self) -> int:
        """Taps of a row of a window."""
        return self.window.width * self.x.channels

    @property
    def first(self) -> int:
        """Bytes before the columns."""
        return self.window.height * self.pitch

    @property
    def bytes(self) -> int:
        """Bytes of all; a row's last vector reaches behind the last column."""
        return self.first + (self.pixels * self.chunks + 1) * CHUNK

    @property
    def pieces(self) -> list[int]:
        """Where the vectors of a row of taps begin; the last one overlaps the one before, or what follows the row."""
        count = self.row_taps
        return [*range(0, count - CHUNK + 1, CHUNK), *([max(count - CHUNK, 0)] if count % CHUNK else [])]

    @property
    def line_pieces(self) -> tuple[int, list[int]]:
        """Vectors that a loop copies of a line, and where the others begin; bytes of less than a vector."""
        whole, rest = divmod(self.filled, CHUNK)
        return whole, [self.filled - CHUNK] if whole and rest else []

    def instruction_features(self, slots: int) -> Features:
        """Count the parts of the copies, of `slots` fields."""
        window, y = self.window, self.y
        inside = sum(
            0 <= row * window.stride_y - window.top + line < self.x.height
            for row in range(y.height)
            for line in range(window.height)
        )
        whole, rest = self.line_pieces
        outside = y.height * window.height - inside
        return {
            "lines_line": y.height * window.height,
            "lines_vector": inside * (whole + len(rest)),
            "lines_loop": inside * (whole // largest_divisor(max(whole, 1), SPELLED)),
            "lines_byte": 0 if whole else inside * self.filled,
            "lines_fill": outside * -(-self.filled // CHUNK) + window.height * self.pitch / CHUNK,
            "lines_row": slots * window.height,
            "lines_piece": slots * window.height * len(self.pieces),
            "lines_slot": slots,
            "lines_tile": slots / self.pixels,
        }

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        return {"code_lines": 1, "code_lines_piece": len(self.pieces) * self.pixels}

    def _at(self, b: Body, offset: Any) -> Any:
        return b.call("t_to", b.address(b["col"], 0), offset, dtype="handle")

    def border(self, b: Body) -> None:
        """Let all lines hold the zero point, once."""
        with b.loop(self.first // CHUNK) as i:
            b.do("t_fill16", self._at(b, i * CHUNK), b["pad"])

    def copy(self, b: Body, row: Any) -> None:
        """Copy the lines of a row of windows; those outside the image hold the zero point."""
        x, window = self.x, self.window
        left = window.left * x.channels
        with b.loop(window.height) as line:
            source = b.bind(row * window.stride_y - window.top + line)
            to = b.bind(self._at(b, line * self.pitch + left))

            def inside() -> None:
                start = b.bind(b.address(b["x"], source * (x.width * x.row)))
                whole, rest = self.line_pieces

                def copy(at: Any) -> None:
                    target = b.call("t_to", to, at, dtype="handle")
                    b.do("t_copy16", target, b.call("t_at", start, at, dtype="handle"))

                if whole:
                    step = largest_divisor(whole, SPELLED)
                    with b.loop(whole // step) as turn:
                        for i in range(step):
                            copy((turn * step + i) * CHUNK)
                for at in rest:
                    copy(at)
                if not whole:
                    with b.loop(self.filled) as i:
                        b.do("t_store8", to, i, b.call("t_load8", b.call("t_at", start, i, dtype="handle")))

            def outside() -> None:
                with b.loop(-(-self.filled // CHUNK)) as i:
                    at = b.T.min(i * CHUNK, self.filled - CHUNK) if self.filled >= CHUNK else i
                    b.do("t_fill16", b.call("t_to", to, at, dtype="handle"), b["pad"])

            b.when(b.T.And(source >= 0, source < x.height), inside, outside)

    @property
    def near(self) -> bool:
        """Whether instructions have room for the distances of a row of taps from the middle one, and in the columns."""
        rows, slots = self.window.height, self.pixels * self.chunks * CHUNK
        far = max(rows // 2 * self.pitch, (rows - 1 - rows // 2) * self.pitch + self.pieces[-1])
        return far < REACH and slots - CHUNK + self.pieces[-1] < REACH

    def fields(self, b: Body, places: list[Any]) -> None:
        """Copy the fields of the outputs at some places of the row to the columns."""
        to, middle = b.bind(self._at(b, self.first)), self.window.height // 2
        step = self.window.stride_x * self.x.channels
        for slot, place in enumerate(places):
            column = slot * self.chunks * CHUNK
            source = b.bind(self._at(b, place * step + (middle * self.pitch if self.near else 0)))

            def copy(row: Any, column: int = column, source: Any = source) -> None:
                for at in self.pieces:
                    target = column + row * self.row_taps + at
                    if self.near:
                        b.do("t_copy16_near", to, target, source, (row - middle) * self.pitch + at)
                    else:
                        own = b.call("t_to", to, target, dtype="handle")
                        b.do("t_copy16", own, b.call("t_at", source, row * self.pitch + at, dtype="handle"))

            if self.near or len(self.pieces) == 1:
                for row in range(self.window.height):
                    copy(row)
            else:
                with b.loop(self.window.height) as row:
                    copy(row)

"""im2col for Helium: receptive fields as bytes, in (kernel y, kernel x, channel) order, filled up to whole vectors."""

from dataclasses import dataclass
from typing import Any

from tapc.kernels.builder import Body
from tapc.kernels.im2col import Im2col
from tapc.kernels.mve.intrinsics import CHUNK
from tapc.kernels.spec import Features
from tapc.kernels.window import inside_taps, whole_windows

SPELLED = 8  # vectors of a copy that are spelled out
FEW = 3  # codes of a tap, at most


@dataclass(frozen=True)
class Columns(Im2col):
    """The column buffer of one convolution: a tile's fields, one after the other.

    Attributes
    ----------
    even : bool
        Every tile is full: the fields of its pixels lie a constant distance apart, also in the input itself.
    """

    even: bool = True

    @property
    def chunks(self) -> int:
        """Vectors of a field. Taps behind the last one meet weights of zero."""
        return -(-self.taps // CHUNK)

    @property
    def direct(self) -> bool:
        """Whether the kernel reads the input itself."""
        point = self.window.taps == 1 and self.inside and self.x.pixels == self.y.pixels
        return self.even and point and self.groups == 1 and self.x.bits == 8 and self.depth % CHUNK == 0

    @property
    def whole(self) -> bool:
        """Whether runs are whole bytes, also per tap at the border."""
        return self.x.bits == 8 or (self.depth % 2 == 0 and self.x.channels % 2 == 0)

    @property
    def bytes(self) -> int:
        """Bytes of the buffer."""
        return 0 if self.direct else self.pixels * self.chunks * CHUNK

    @property
    def _copy_key(self) -> str:
        return f"a{self.x.bits}" if self.whole else f"gather{self.x.bits}"

    def instruction_features(self, slots: int) -> Features:
        """Count the parts of im2col of `slots` fields."""
        window, x = self.window, self.x
        whole = whole_windows(x, self.y, window) / self.y.pixels if self.whole else 0.0
        inside = inside_taps(x, self.y, window)[1] / self.y.pixels
        runs = window.height * (window.width if self.scattered else 1)
        vectors, narrow = _pieces(self.row_taps, x.bits)
        partly, outside = slots * (inside - whole * window.taps), slots * (window.taps - inside)
        tap_vectors, tap_narrow = _pieces(self.depth, x.bits)
        long = "loop" if self.row_taps // CHUNK > SPELLED else ""
        copy = self._copy_key
        features: Features = {
            f"pixel_{'' if self.inside else 'border'}{copy}": slots,
            f"copy_{copy}{long}": slots * whole * runs * vectors,
            f"narrow_{copy}": slots * whole * runs * narrow,
            f"run_{copy}": slots * whole * runs,
        }
        # Few single codes of a tap are spelled out.
        few = "few" if not self.whole and self.depth <= FEW else ""
        if partly or outside:
            features |= {
                f"tap_{copy}": partly,
                f"tapcopy_{copy}": partly * tap_vectors if self.whole else 0,
                f"tapnarrow_{copy}{few}": partly * (tap_narrow if self.whole else self.depth),
                "outside": outside,
                "pad": outside * (self.depth if self.depth < CHUNK else -(-self.depth // CHUNK)),
            }
        return features

    def code_features(self) -> Features:
        """Return the parts of im2col in the machine code."""
        (vectors, narrow), copy = _pieces(self.row_taps, self.x.bits), self._copy_key
        return {
            f"code_column_{copy}{'' if self.inside else 'border'}": self.pixels,
            f"code_copy_{copy}": self.pixels * (1 if self.row_taps // CHUNK > SPELLED else vectors),
            f"code_narrow_{copy}": self.pixels * narrow,
        }

    def emit(self, b: Body, pixel: Any, slot: Any, group: Any) -> None:
        """Write one pixel's field to its slot.

        Parameters
        ----------
        b : Body
            With parameters x, col and pad.
        pixel : expression
            Output pixel.
        slot, group : expression
        """
        T, window, x = b.T, self.window, self.x
        to = slot * self.chunks * CHUNK
        origin = self.origin(b, pixel)
        start = T.truncdiv(group * self.depth * x.bits, 8)

        def runs() -> None:
            first = (origin[0] * x.width + origin[1]) * x.row + start
            with b.loop(window.height) as ky:
                if not self.scattered:
                    self._copy(b, to + ky * self.row_taps, first + ky * self.pitch, self.row_taps)
                else:
                    with b.loop(window.width) as kx:
                        source = first + ky * self.pitch + kx * self.step
                        self._copy(b, to + (ky * window.width + kx) * self.row_taps, source, self.row_taps)

        if self.whole:
            self.whole_or_taps(b, origin, runs, lambda: self._taps(b, origin, to, group))
        else:
            self._taps(b, origin, to, group)

    def _taps(self, b: Body, origin: Any, slot: Any, group: Any) -> None:
        """Write a field tap by tap; outside the image lies the zero point."""
        x, depth = self.x, self.depth

        def inside(source: Any, tap: Any) -> None:
            to = slot + tap * depth
            if self.whole:
                self._copy(b, to, source * x.row + b.T.truncdiv(group * depth * x.bits, 8), depth)
                return
            with b.loop(depth) as channel:
                code = x.load(b, b["x"], source, group * depth + channel)
                b.do("t_store8", b.address(b["col"], 0), to + channel, code)

        self.each_tap(b, origin, inside, lambda tap: self._fill(b, slot + tap * depth, depth))

    def _copy(self, b: Body, to: Any, source: Any, count: int) -> None:
        """Copy `count` codes from byte `source` of x to byte `to` of the column; pieces may overlap."""
        column = b.bind(b.call("t_to", b.address(b["col"], 0), to, dtype="handle"))
        first = b.bind(b.address(b["x"], source))
        wide, narrow, least = ("t_copy16", "t_copy4", 4) if self.x.bits == 8 else ("t_expand16", "t_expand2", 2)

        def piece(name: str, at: Any) -> None:
            scaled = at if self.x.bits == 8 else b.T.truncdiv(at, 2)
            target = b.call("t_to", column, at, dtype="handle")
            b.do(name, target, b.call("t_at", first, scaled, dtype="handle"))

        looped = count // CHUNK if count // CHUNK > SPELLED else 0
        if looped:
            with b.loop(looped) as i:
                piece(wide, i * CHUNK)
        if count >= CHUNK:
            for at in range(looped * CHUNK, count - CHUNK + 1, CHUNK):
                piece(wide, at)
            if count % CHUNK:
                piece(wide, count - CHUNK)
        elif count >= least:
            for at in range(0, count - least + 1, least):
                piece(narrow, at)
            if count % least:
                piece(narrow, count - least)
        else:
            for at in range(count):
                b.do("t_store8", column, at, b.call("t_load8", b.call("t_at", first, at, dtype="handle")))

    def _fill(self, b: Body, to: Any, count: int) -> None:
        """Write the zero point `count` times."""
        column = b.bind(b.call("t_to", b.address(b["col"], 0), to, dtype="handle"))
        if count < CHUNK:
            with b.loop(count) as i:
                b.do("t_store8", column, i, b["pad"])
            return
        with b.loop(count // CHUNK) as i:
            b.do("t_fill16", b.call("t_to", column, i * CHUNK, dtype="handle"), b["pad"])
        if count % CHUNK:
            b.do("t_fill16", b.call("t_to", column, count - CHUNK, dtype="handle"), b["pad"])


def _pieces(count: int, bits: int) -> tuple[int, int]:
    """Return (vectors, narrow pieces) of a copy of `count` codes."""
    if count >= CHUNK:
        return -(-count // CHUNK), 0
    least = 4 if bits == 8 else 2
    return 0, -(-count // least) if count >= least else count

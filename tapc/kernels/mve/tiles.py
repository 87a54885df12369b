"""Products of a tile of output channels and pixels, whose sums stay in the even registers that VMLADAV needs.

GCC alone keeps LR for its own loops and moves the sums to and fro, a third of all instructions. Which products a
function has is in its name: bits of the weights, `t` where narrow ones are taken at the top of their bytes, rows x
pixels x vectors of weights that are spelled out, `l` where a loop repeats these, `r` and the fields of the last
vectors, which the rows share, and `v` where sums are returned as vectors of four rows.
"""

import re
from dataclasses import dataclass

from tapc.base.arithmetic.intrinsic import Intrinsic

UNROLL = 4
"""Vectors of a row's weights that are spelled out, at most."""
REACH = 508  # bytes from a pointer that a load's offset reaches
_KEPT = ("q1", "q4", "q5", "q6")  # weights whose fields are taken one after the other
_LANES = 4
_EVEN = ("r0", "r2", "r4", "r6", "r8", "r10", "r12", "lr")
_NAME = re.compile(r"t_tile(\d)(t?)_(\d)x(\d)x(\d)(l?)r(\d)(v?)")


@dataclass(frozen=True)
class Products:
    """What one of these functions computes.

    Attributes
    ----------
    bits : {2, 4, 8}
        Of the weights.
    top : bool
        Narrow weights are taken at the top of their bytes, which saves an instruction: sums are 2^(8 - bits) as large.
    rows, pixels : int
    unroll : int
        Vectors of each row's weights that are spelled out.
    looped : bool
    rest : int
        Vectors of the columns behind those, less than fields of a byte.
    vector : bool
        The sums of each pixel are a vector.
    """

    bits: int
    top: bool
    rows: int
    pixels: int
    unroll: int
    looped: bool
    rest: int
    vector: bool

    @property
    def name(self) -> str:
        """The function's name."""
        size = f"{self.rows}x{self.pixels}x{self.unroll}{'l' if self.looped else ''}"
        return f"t_tile{self.bits}{'t' if self.top else ''}_{size}r{self.rest}{'v' if self.vector else ''}"

    @property
    def fields(self) -> int:
        """Weights of a byte."""
        return 8 // self.bits

    @property
    def _own(self) -> tuple[str, ...]:
        """The registers of the sums, by name: where GCC 12 has to find eight even ones, it may search forever."""
        return _EVEN[: self.rows * self.pixels]

    def _lane(self, row: int, pixel: int) -> tuple[int, int]:
        """Return which vector returns a sum, and in which lane."""
        return (pixel, row) if self.vector else divmod(row * self.pixels + pixel, _LANES)

    def _field(self, field: int, source: str) -> list[str]:
        """Return instructions that bring a field of each byte to q0; q7 masks the one at the top."""
        left, unused = 8 - self.bits * (field + 1), 8 - self.bits
        raised = [f"vshl.i8 q0, {source}, #{left}"] if left else []
        source = "q0" if left else source
        if not self.top:
            return [*raised, f"vshr.s8 q0, {source}, #{unused}"]
        return raised if left == unused else [*raised, f"vand q0, {source}, q7"]

    def _column(self, pixel: int) -> str:
        """Return the register of a pixel's column, in which sums are returned as a vector."""
        return f"%q[v{pixel}]"

    def _weights(self, place: int | None) -> str:
        return "[%[w]], #16" if place is None else f"[%[w], #{16 * place}]"

    def _columns(self, chunk: int | None) -> list[str]:
        """Return loads of a vector of each pixel's column: pointers move on, or stay where it has a number."""
        if chunk is None:
            return [f"vldrw.u32 {self._column(j)}, [%[p{j}]], #16" for j in range(self.pixels)]
        places = [f"[%[p0], #{16 * chunk}]", f"[%[p0], %[d{chunk}]]"] if not self.looped else [
            f"[%[p{j}], #{16 * chunk}]" for j in range(self.pixels)
        ]  # fmt: skip
        return [f"vldrw.u32 {self._column(j)}, {places[j]}" for j in range(self.pixels)]

    def _multiply(self, row: int, vector: str, *, first: bool) -> list[str]:
        name = "vmladav" if first else "vmladava"
        return [
            f"{name}.s8 {self._own[row * self.pixels + j]}, {vector}, {self._column(j)}" for j in range(self.pixels)
        ]

    def _vectors(self, number: int) -> list[str]:
        """Return the products of a vector of each row; the first one's start the sums."""
        lines = []
        for field in range(self.fields):
            chunk = number * self.fields + field
            lines += self._columns(None if self.looped else chunk)
            for row in range(self.rows):
                vector = "q0" if self.fields > 1 else ("q0", "q1")[row % 2]
                if field == 0:
                    kept = vector if self.fields == 1 else _KEPT[row]
                    lines.append(
                        f"vldrw.u32 {kept}, " + self._weights(None if self.looped else number * self.rows + row)
                    )
                if self.fields > 1:
                    lines += self._field(field, _KEPT[row])
                lines += self._multiply(row, vector, first=chunk == 0 and not self.looped)
        return lines

    def _shared(self) -> list[str]:
        """Return the products of the last fields."""
        lines, vectors, before = [], 0 if self.looped else self.unroll * self.rows, self.unroll * self.fields
        loaded = -1
        for i in sorted(range(self.rows * self.rest), key=lambda i: i % self.rest):
            row, chunk = divmod(i, self.rest)
            if row == 0:
                lines += self._columns(chunk + (0 if self.looped else before))
            if i // self.fields != loaded:
                loaded = i // self.fields
                lines.append(f"vldrw.u32 q1, {self._weights(vectors + loaded)}")
            lines += self._field(i % self.fields, "q1")
            lines += self._multiply(row, "q0", first=chunk == 0 and not self.looped and not before)
        return lines

    def _text(self) -> str:
        body = [line for i in range(self.unroll) for line in self._vectors(i)]
        lines = [f"vmov.i8 q7, #0x{256 - (1 << 8 - self.bits):x}"] if self.top else []
        if self.looped:
            lines += [f"mov {register}, #0" for register in self._own]
        lines += ["1:", *body, "subs %[n], #1", "bne 1b"] if self.looped else body
        lines += self._shared()
        # Not by VMOV of two registers: QEMU 7.2 and compilers disagree about which one goes to which lane.
        for row in range(self.rows):
            for j in range(self.pixels):
                vector, lane = self._lane(row, j)
                lines.append(f"vmov.32 {self._column(vector)}[{lane}], {self._own[row * self.pixels + j]}")
        return "\\n\\t".join(lines)

    def _assembly(self) -> str:
        text, whole = self._text(), self.unroll * self.fields + self.rest
        used = sorted({int(q) for q in re.findall(r"\bq(\d)", text)})
        registers = ["cc", "memory", *self._own, *(f"d{2 * q + half}" for q in used for half in range(2))]
        clobbered = ", ".join(f'"{register}"' for register in registers)
        vectors = [f'[v{j}] "=&w"(v{j})' for j in range(self.pixels)]
        kind = "+" if self.looped else ""
        pointers = [f'[p0] "{kind}r"(x)', f'[w] "{kind}r"(w)']
        if self.looped:
            pointers += [*(['[p1] "+r"(y)'] if self.pixels > 1 else []), '[n] "+r"(count)']
        inputs = [] if self.looped else [*pointers]
        if self.pixels > 1 and not self.looped:
            inputs += [f'[d{k}] "n"(apart + {16 * k})' for k in range(whole)]
        outputs = ", ".join([*vectors, *(pointers if self.looped else [])])
        return f'__asm__ volatile("{text}"\n    : {outputs} : {", ".join(inputs)} : {clobbered});'

    def intrinsic(self) -> Intrinsic:
        """Return the function: pixels' columns lie `apart` bytes apart."""
        bits, size, fields = self.bits, self.rows * self.pixels, self.fields
        field = "(int8_t)*a" if fields == 1 else f"(int8_t)(uint8_t)(*a << (8 - {bits} * (f + 1)))"
        if fields > 1:
            field = f"({field} & -{1 << 8 - bits})" if self.top else f"({field} >> {8 - bits})"
        add = "out[{}] = (int32_t)((uint32_t)out[{}] + (uint32_t)({} * b[{} * 16 + i]));"
        place = f"{self.rows} * j + r" if self.vector else f"{self.pixels} * r + j"
        loops = f"for (int32_t j = 0; j < {self.pixels}; ++j) for (int32_t i = 0; i < 16; ++i)"
        pointers = "const uint8_t *a = p + i; const int8_t *b = (const int8_t *)x + apart * j;"
        turns = f"{self.unroll}{' * count' if self.looped else ''}"
        shared = (
            f"  for (int32_t k = 0; k < {self.rows * self.rest}; ++k) {loops} {{\n"
            f"    int32_t r = k / {max(self.rest, 1)}, f = k % {fields}; {pointers} a += k / {fields} * 16;\n"
            f"    {add.format(place, place, field, f'({fields} * n + k % {max(self.rest, 1)})')}\n  }}"
        )
        values = "t_v4 " + ", ".join(f"v{j}" for j in range(self.pixels))
        results = [f"out[{i}] = v{i // _LANES}[{i % _LANES}];" for i in range(size)]
        if self.vector:
            results = [f"*(t_v4 *)(void *)(out + {_LANES * j}) = v{j};" for j in range(self.pixels)]
        second = " const void *y = (const char *)x + apart;" if self.looped and self.pixels > 1 else ""
        return Intrinsic(
            self.name, "void",
            ("const void *w", "const void *x", "int32_t apart", "int32_t count", "int32_t *out"), None,
            f"(void)apart; (void)count; const uint8_t *p = (const uint8_t *)w; int32_t n = 0;"
            f" for (int32_t i = 0; i < {size}; ++i) out[i] = 0;\n"
            f"  for (; n < {turns}; ++n)\n"
            f"    for (int32_t r = 0; r < {self.rows}; ++r, p += 16)\n"
            f"      for (int32_t f = 0; f < {fields}; ++f) {loops} {{\n"
            f"      {pointers} {add.format(place, place, field, f'({fields} * n + f)')}\n    }}\n"
            + (shared if self.rest else ""),
            mve=f"(void)apart; (void)count;{second} {values};\n  {self._assembly()}\n  {' '.join(results)}",
        )  # fmt: skip


def tiles_of(source: str) -> tuple[Intrinsic, ...]:
    """Return the functions of this module that C code calls."""
    found = sorted({match.groups() for match in _NAME.finditer(source)})
    return tuple(
        Products(int(bits), bool(top), int(rows), int(pixels), int(unroll), bool(loop), int(rest), bool(v)).intrinsic()
        for bits, top, rows, pixels, unroll, loop, rest, v in found
    )

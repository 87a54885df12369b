"""Patches: a part of a program is computed band by band, so that what lies inside it never is in memory as a whole.

Every band computes the same operators on fewer rows. What two bands both need is computed twice. The rows of the
part's input that a band reads, and those of its output that it writes, are views of these tensors: nothing is copied.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tapc.base.errors import DataError
from tapc.ir.bands import Patch, Read, Rows, RowWindow, joined, read
from tapc.ir.program import Op, Program, Tensor

ALIGNMENT = 4
"""Of the addresses that kernels are given, in bytes."""


@dataclass(frozen=True)
class Part:
    """The operators between two tensors.

    Attributes
    ----------
    source, result : str
    ops : range
        Places in the program.
    """

    source: str
    result: str
    ops: range


def cuts(program: Program) -> dict[int, str]:
    """Return the places between operators at which one tensor is all that the rest of the program needs: it, by place.

    At place n the first n operators have run.
    """
    last = {program.whole(name)[0]: place for place, op in enumerate(program.ops) for name in op.inputs}
    last |= dict.fromkeys(program.outputs, len(program.ops))
    alive = {name for name in program.inputs if name in last}
    found = {}
    for place in range(len(program.ops) + 1):
        if place:
            alive |= {program.whole(program.ops[place - 1].output)[0]} & set(last)
        alive = {name for name in alive if last[name] >= place}
        if len(alive) == 1:
            (found[place],) = alive
    return found


def parts(program: Program) -> Iterator[Part]:
    """Yield what may be computed in bands: operators between two cuts, each of which reads windows of rows."""
    places, kept = cuts(program), {own.after for own in program.states}
    for start, source in places.items():
        for stop in range(start + 1, len(program.ops) + 1):
            op = program.ops[stop - 1]
            if op.in_place or op.output in program.bands or op.row_windows(program) is None:
                break
            # A tensor that is needed behind the result too would have to stay as a whole.
            # A state may lie where the source does, and must not be written before that was read.
            if stop in places and places[stop] == op.output not in (source, *kept):
                yield Part(source, op.output, range(start, stop))


def part_of(program: Program, source: str, result: str) -> Part:
    """Return the part between two tensors.

    Raises
    ------
    DataError
        It cannot be computed in bands.
    """
    for part in parts(program):
        if (part.source, part.result) == (source, result):
            return part
    raise DataError(f"what lies between {source!r} and {result!r} cannot be computed in bands")


Needs = dict[str, range]
"""Tensor -> its rows that a band computes, or reads of the source."""
Windows = Sequence[tuple[RowWindow, ...]]
"""Of the inputs of every operator."""


def windows_of(program: Program, part: Part) -> Windows:
    """Return which rows the operators of a part read."""
    found = [program.ops[place].row_windows(program) for place in part.ops]
    return [windows for windows in found if windows is not None]


def needs_of(program: Program, part: Part, windows: Windows, rows: range) -> Needs | None:
    """Return which rows of every tensor some rows of the result need; None where a window lies beside its input."""
    needs: Needs = {part.result: rows}
    for place, own_windows in zip(reversed(part.ops), reversed(windows), strict=True):
        op = program.ops[place]
        for name, window in zip(op.inputs, own_windows, strict=True):
            own = read(window, needs[op.output], program.tensors[name].shape[0])
            if own is None:
                return None
            needs[name] = joined(needs.get(name), own.rows)
    return needs


def bands_of(height: int, rows: int) -> list[range]:
    """Return the rows of every band."""
    return [range(first, min(first + rows, height)) for first in range(0, height, rows)]


class _Patching:
    """Writes the bands of one part."""

    def __init__(self, program: Program, part: Part) -> None:
        self.program, self.part, self.windows = program, part, windows_of(program, part)
        self.tensors, self.live = dict(program.tensors), dict(program.live)
        self.views, self.bands = dict(program.views), dict(program.bands)
        self.ops: list[Op] = []

    def band(self, number: int, rows: range) -> bool:
        """Add a band; False where it cannot be."""
        needs = needs_of(self.program, self.part, self.windows, rows)
        if needs is None:
            return False
        held = {self.part.source: (self.part.source, range(self.program.tensors[self.part.source].shape[0]))}
        for place, windows in zip(self.part.ops, self.windows, strict=True):
            op = self.program.ops[place]
            wanted = needs[op.output]
            reads = [
                read(window, wanted, self.program.tensors[name].shape[0])
                for name, window in zip(op.inputs, windows, strict=True)
            ]
            inputs = [self._view(*held[name], own) for name, own in zip(op.inputs, reads, strict=True)]
            if None in inputs or reads[0] is None:
                return False
            output = self._tensor(op.output, f"{op.output} band {number}", wanted)
            if op.output == self.part.result:
                self.views[output] = Rows(op.output, wanted.start)
                if self.tensors[op.output].row * wanted.start % ALIGNMENT:
                    return False
            self.bands[output] = Rows(op.output, wanted.start)
            held[op.output] = output, wanted
            names, pads = tuple(name for name in inputs if name is not None), (reads[0].top, reads[0].bottom)
            self.ops.append(op.banded(names, output, len(wanted), pads))
        return True

    def _tensor(self, of: str, name: str, rows: range) -> str:
        whole = self.tensors[of]
        self.tensors[name] = replace(whole, shape=(len(rows), *whole.shape[1:]))
        if of in self.live:
            self.live[name] = self.live[of]
        return name

    def _view(self, holder: str, rows: range, own: Read | None) -> str | None:
        """Return the tensor that is what an operator reads of one that holds these rows."""
        if own is None:
            return None
        if own.rows == rows:
            return holder
        first = own.rows.start - rows.start
        if self.tensors[holder].row * first % ALIGNMENT:
            return None
        name = self._tensor(holder, f"{holder} rows {first}-{first + len(own.rows) - 1}", own.rows)
        self.views[name] = Rows(holder, first)
        return name


def banded(program: Program, part: Part, rows: int, numbers: Sequence[int] | None = None) -> Program | None:
    """Return a program that computes a part in bands; None where that cannot be.

    Parameters
    ----------
    program : Program
    part : Part
    rows : int
        Of its result, in every band but the last.
    numbers : sequence of int, optional
        Bands that are written, for an estimate; all by default.
    """
    patching, bands = _Patching(program, part), bands_of(program.tensors[part.result].shape[0], rows)
    for number in range(len(bands)) if numbers is None else numbers:
        if not patching.band(number, bands[number]):
            return None
    ops = (*program.ops[: part.ops.start], *patching.ops, *program.ops[part.ops.stop :])
    changed = replace(
        program,
        tensors=patching.tensors,
        live=patching.live,
        views=patching.views,
        bands=patching.bands,
        patches=(*program.patches, Patch(part.source, part.result, rows)),
    )
    return changed.with_ops(ops)


def patched(program: Program, patches: Sequence[Patch]) -> Program:
    """Return a program that computes these parts of it in bands.

    Raises
    ------
    DataError
        A part that cannot be.
    """
    for patch in patches:
        if not 0 < patch.rows < program.tensors.get(patch.result, _NONE).shape[0]:
            raise DataError(f"{patch.result!r} has no bands of {patch.rows} rows")
        found = banded(program, part_of(program, patch.source, patch.result), patch.rows)
        if found is None:
            raise DataError(f"what makes {patch.result!r} cannot be computed in bands of {patch.rows} rows")
        program = found
    return program


_NONE = Tensor("", (0, 0, 0), 8, 1.0, 0)


@dataclass(frozen=True)
class Summary:
    """A part in bands, as it runs.

    Attributes
    ----------
    patch : Patch
    layers : tuple of str
    bands : int
    macs, extra_macs : int
        Multiply-accumulates that all bands compute, and those of them that are computed twice.
    """

    patch: Patch
    layers: tuple[str, ...]
    bands: int
    macs: int
    extra_macs: int

    def __str__(self) -> str:
        return in_bands(self.layers, self.bands, self.patch.rows, self.macs, self.extra_macs)


def in_bands(layers: Sequence[str], bands: int, rows: int, macs: int, extra_macs: int) -> str:
    """Say what is computed in bands; arguments as of `Summary`."""
    ends = " to ".join(dict.fromkeys((layers[0], layers[-1])))
    share = 100 * extra_macs / max(macs - extra_macs, 1)
    return f"{ends} in {bands} bands of {rows} rows, {share:.1f} % more MACs"


def summaries(program: Program) -> tuple[Summary, ...]:
    """Return the parts of a program that are computed in bands, in order."""
    known, found, own = {patch.result: patch for patch in program.patches}, [], list[Op]()
    heights: dict[str, int] = {}
    for output, rows in program.bands.items():
        heights[rows.of] = max(heights.get(rows.of, 0), rows.first + program.tensors[output].shape[0])
    for op in program.ops:
        if op.output not in program.bands:
            continue
        own.append(op)
        whole, first = program.whole(op.output)
        if whole in known and first + program.tensors[op.output].shape[0] == program.tensors[whole].shape[0]:
            counts = [(one.macs(program), program.tensors[one.output].shape[0], one) for one in own]
            plain = {one.name: macs * heights[program.bands[one.output].of] // rows for macs, rows, one in counts}
            macs = sum(count for count, _, _ in counts)
            bands = sum(program.whole(one.output)[0] == whole for one in own)
            found.append(Summary(known[whole], tuple(plain), bands, macs, max(macs - sum(plain.values()), 0)))
            own = []
    return tuple(found)

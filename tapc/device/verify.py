"""Device against reference: every layer of some samples and the output of all, bit for bit."""

import zlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic import Ints
from tapc.base.errors import MismatchError
from tapc.base.ports import joined
from tapc.base.tool import check_going
from tapc.data import Samples
from tapc.data.metrics import Metric, Score, measure
from tapc.device.interface import DeviceRun, LoadedImage, Progress
from tapc.ir.bands import Rows
from tapc.ir.program import Op, Program, Tensor
from tapc.kernels.packing import pack_activations, unpack_activations
from tapc.lower import Lowered
from tapc.lower.codes import apart, detections, values
from tapc.lower.reference import execute
from tapc.lower.states import carried, given_codes

BATCH = 32


@dataclass(frozen=True)
class Mismatch:
    """The first element that differs.

    Attributes
    ----------
    sample : int
    layer : str
    element : tuple of int
        Height, width, channel of the network's tensor; empty where only a checksum is known.
    expected, actual : int
        Codes of the reference and of the device.
    """

    sample: int
    layer: str
    element: tuple[int, ...]
    expected: int
    actual: int

    def __str__(self) -> str:
        if not self.element:
            return f"sample {self.sample}, layer {self.layer!r}: the device's output has another checksum"
        return (
            f"sample {self.sample}, layer {self.layer!r}, element (h, w, c) = {self.element}: "
            f"the reference gives {self.expected}, the device {self.actual}"
        )


@dataclass(frozen=True, eq=False)
class Verification:
    """Result of a comparison.

    Attributes
    ----------
    layers : dict of str to bool
        Operator name -> all elements of all dumped samples equal.
    outputs_exact : bool
        Outputs of all samples equal.
    samples : int
        Samples of which every layer was compared.
    mismatch : Mismatch or None
        In execution order the first.
    codes : ndarray of int64, shape (N, H, W, C)
        Output codes of the device; of several outputs, rows (N, values).
    """

    layers: dict[str, bool]
    outputs_exact: bool
    samples: int
    mismatch: Mismatch | None
    codes: Ints

    def outputs(self, program: Program) -> NDArray[np.float32]:
        """Return the device's outputs (N, C x H x W) in the order and units of the float network."""
        return values(program, self.codes)

    def detections(self, program: Program) -> NDArray[np.float64] | None:
        """Return the detections that the device made; None where it makes none."""
        return detections(program, self.codes)

    def score(self, metric: Metric, program: Program, samples: Samples) -> Score:
        """Return what the device's outputs, or its detections, measure."""
        return measure(metric, self.outputs(program), samples, self.detections(program))

    @property
    def exact(self) -> bool:
        """Whether nothing differs."""
        return self.mismatch is None


def device_inputs(network: Lowered, codes: Ints) -> NDArray[np.int8]:
    """Return the bytes that the device is given, shape (N, bytes)."""
    program, names = network.program, network.program.given
    given = given_codes(program, codes)
    parts = [
        pack_activations(part, program.tensors[name].bits).reshape(len(codes), -1)
        for name, part in zip(names, apart(program, names, given), strict=True)
    ]
    return joined(parts).view(np.int8)


def device_outputs(program: Program, outputs: NDArray[np.int8]) -> Ints:
    """Return the output codes for the bytes that the device gives, shape (N, bytes)."""
    tensors = [program.tensors[name] for name in program.outputs]
    ends = np.cumsum([t.bytes for t in tensors]).tolist()
    raw = outputs.view(np.uint8)
    parts = [
        unpack_activations(np.ascontiguousarray(raw[:, end - t.bytes : end]), t.shape, t.bits)
        for t, end in zip(tensors, ends, strict=True)
    ]
    return joined(parts)


def _first_difference(sample: int, layer: str, expected: Ints, actual: Ints) -> Mismatch | None:
    different = np.argwhere(expected != actual)
    if not len(different):
        return None
    element = tuple(int(i) for i in different[0])
    return Mismatch(sample, layer, element, int(expected[element]), int(actual[element]))


def reference_outputs(network: Lowered, codes: Ints) -> Ints:
    """Run the reference executor in batches; shape (N, H, W, C), or rows."""
    parts = []
    for start in range(0, len(codes), BATCH):
        check_going()
        parts.append(execute(network.reference, codes[start : start + BATCH]))
    return np.concatenate(parts)


def sequences(network: Lowered, codes: Ints, steps: int) -> tuple[Ints, Ints]:
    """Run the reference executor on sequences of so many steps.

    Returns
    -------
    codes : ndarray of int64
        Of all inputs; what is kept between calls is what the reference kept.
    outputs : ndarray of int64
        As `reference_outputs`.
    """
    if network.reference.states:
        return carried(network.reference, codes, steps)
    return codes, reference_outputs(network, codes)


def run_sequences(
    image: LoadedImage, network: Lowered, codes: Ints, steps: int, *, layers: int, progress: Progress | None = None
) -> DeviceRun:
    """Run a device on sequences; of several steps, and where it keeps something, on the first once more at the end.

    Raises
    ------
    MismatchError
        That step gives something else than it did: the network does not begin anew.
    """
    inputs = device_inputs(network, codes)
    if not network.program.states:
        return image.run(inputs, layers=layers, progress=progress)
    if len(inputs) == 1:
        return image.run(inputs, layers=layers, progress=progress, period=1)
    run = image.run(np.concatenate([inputs, inputs[:1]]), layers=layers, progress=progress, period=steps or len(inputs))
    if not np.array_equal(run.outputs[-1], run.outputs[0]):
        reset = network.names.symbol("reset")
        raise MismatchError(f"the firmware is wrong: after {reset}() the first step gives other outputs than at first")
    return replace(run, outputs=run.outputs[:-1])


def _in_outputs(program: Program, wanted: Ints, actual: Ints) -> list[Mismatch]:
    """Return the first difference of the outputs, under the layer that gives the output."""
    sample = int(np.argwhere((actual != wanted).reshape(len(actual), -1).any(axis=1))[0, 0])
    makers = {program.whole(op.output)[0]: op.name for op in program.ops}
    pairs = zip(*(apart(program, program.outputs, codes) for codes in (wanted, actual)), strict=True)
    for name, (expected, found) in zip(program.outputs, pairs, strict=True):
        difference = _first_difference(sample, makers.get(name, name), expected[sample], found[sample])
        if difference is not None:
            return [difference]
    return []


def verify(network: Lowered, run: DeviceRun, codes: Ints, *, expected: Ints | None = None) -> Verification:
    """Compare a device run with the reference executor on the network before any rewrite.

    Layers are compared on the channels that the device computes. Channels that were removed could only show in the
    outputs, which are compared in full.

    Parameters
    ----------
    network : Lowered
    run : DeviceRun
        Layer outputs of its first samples are compared, outputs of all.
    codes : ndarray of int64, shape (N, H, W, C)
        Input codes of the run.
    expected : ndarray of int64, optional
        Reference outputs when they are known already.
    """
    program = network.program
    # Each tensor of the network, the steps that are the last to write it or rows of it, and where these rows begin.
    writers: dict[str, list[tuple[int, int]]] = {}
    for output, index in {step.output: i for i, step in enumerate(network.steps)}.items():
        rows = program.bands.get(output, Rows(output, 0))
        writers.setdefault(rows.of, []).append((index, rows.first))
    count = len(run.layer_outputs)
    layers = {step.op.name: True for step in network.steps}
    mismatches: list[Mismatch] = []

    def expected_of(index: int, first: int, values: Ints) -> tuple[str, Tensor, Ints, Ints]:
        """Return a step's layer and output, and what it should write: which rows, on which channels."""
        step = network.steps[index]
        y, live = program.tensors[step.output], program.live.get(step.output)
        channels = np.arange(values.shape[-1]) if live is None else np.flatnonzero(live)
        return step.op.name, y, values[:, first : first + y.shape[0], :, channels], channels

    def observe(op: Op, values: Ints) -> None:
        for index, first in writers.get(op.output, ()):
            layer, y, wanted, channels = expected_of(index, first, values)
            for sample, outputs in enumerate(run.layer_outputs):
                actual = unpack_activations(np.frombuffer(outputs[index], np.uint8), y.shape, y.bits)
                found = _first_difference(sample, layer, wanted[sample], actual)
                if found is not None:
                    row, column, channel = found.element
                    layers[layer] = False
                    mismatches.append(replace(found, element=(first + row, column, int(channels[channel]))))

    def observe_sums(op: Op, values: Ints) -> None:
        for index, first in writers.get(op.output, ()):
            layer, y, wanted, _ = expected_of(index, first, values)
            if zlib.crc32(pack_activations(wanted, y.bits).tobytes()) != run.layer_crcs[index]:
                layers[layer] = False
                mismatches.append(Mismatch(0, layer, (), 0, 0))

    if run.layer_crcs and not count:
        execute(network.reference, codes[:1], observe=observe_sums)
    if count:
        execute(network.reference, codes[:count], observe=observe)
    actual = device_outputs(program, run.outputs)
    wanted = reference_outputs(network, codes) if expected is None else expected
    outputs_exact = bool(np.array_equal(actual, wanted))
    if not outputs_exact and not mismatches:
        mismatches += _in_outputs(program, wanted, actual)
    compared = count or (1 if run.layer_crcs else 0)
    return Verification(layers, outputs_exact, compared, mismatches[0] if mismatches else None, actual)

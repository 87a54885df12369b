"""What every importer hands over, and what the frontend returns."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base.errors import UnsupportedError
from tapc.base.ports import Port, Ports
from tapc.data import PixelUnits
from tapc.graph.given import Given
from tapc.graph.state import States, given_inputs, own_outputs, states

Runner = Callable[[NDArray[Any]], NDArray[Any]]
"""float32 network inputs (N, ...) -> float32 outputs (N, ...), each sample for itself, both in canonical layout.

Several inputs or outputs lie side by side in rows (N, values); see `tapc.base.ports`.
"""


def one_by_one(run: Callable[[NDArray[Any]], NDArray[Any]]) -> Runner:
    """Return a runner made of a function for batch 1."""

    def each(x: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([run(x[i : i + 1]) for i in range(len(x))])

    return each


@dataclass(frozen=True, eq=False)
class Reference:
    """What the source network gives in its own runtime.

    Attributes
    ----------
    x : float32 (N, ...)
        Samples, in the network's input units.
    y : float32 (N, ...)
        Outputs.
    """

    x: NDArray[np.float32]
    y: NDArray[np.float32]


@dataclass(frozen=True)
class FloatModel:
    """A network as one canonical float ONNX graph.

    Attributes
    ----------
    name : str
        The network's name: zoo name, callable or file stem.
    onnx : onnx.ModelProto
        Opset 21, IR 10, batch 1, static shapes; only operators that have a `tapc.graph.rules.Rule`.
    inputs, outputs : tuple of Port
        Name and shape of each, NCHW or (1, features).
    source : str
        Path or zoo name that was loaded.
    source_error : float or None
        Largest difference to the source runtime, relative to the largest output; None where that runtime is missing
        (see `provenance`).
    pixel_scale : float
        Factor from raw data values to the network's input units; 1/255 for the zoo's image networks, else 1.
    mean, std : tuple of float
        The network's inputs are (raw * pixel_scale - mean) / std, per channel; one value serves all.
    dataset : str
        Name under which `tapc.data.find_data` looks for samples; empty where there is none.
    labels : tuple of str or None
        Class names, where known.
    provenance : str
        Where the graph comes from and what `source_error` was measured against.
    run : callable or None
        The source in its own runtime, for a comparison on further inputs.
    reference : Reference or None
        What the source gives for samples that every transformation is checked on; see `tapc.flow.fidelity`.
    units_given : bool
        The user gave the three: floats in data are raw values, too.
    equalized_for : int or None
        Weight bits for which channels were multiplied by factors that the network's function does not depend on; see
        `tapc.flow.balancing`. None where they were not.
    given : Given or None
        Scales, zero points and integers of a quantized source, by tensors and nodes of `onnx`; None where the network
        is to be quantized.
    """

    name: str
    onnx: onnx.ModelProto
    inputs: Ports
    outputs: Ports
    source: str
    source_error: float | None
    pixel_scale: float
    labels: tuple[str, ...] | None
    provenance: str
    run: Runner | None = field(default=None, compare=False, repr=False)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    dataset: str = ""
    units_given: bool = False
    equalized_for: int | None = None
    reference: Reference | None = field(default=None, compare=False, repr=False)
    given: Given | None = field(default=None, compare=False, repr=False)

    @cached_property
    def states(self) -> States:
        """What is kept between calls: the last of `inputs` and of `outputs`."""
        return states(self.onnx)

    @cached_property
    def given_inputs(self) -> Ports:
        """The inputs that are given with every call: those that are no states."""
        return given_inputs(self.onnx)

    @cached_property
    def own_outputs(self) -> Ports:
        """The outputs that are no states."""
        return own_outputs(self.onnx)

    @property
    def input_name(self) -> str:
        """Name of the one input."""
        return self._only(self.inputs, "inputs").name

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the one input, NCHW or (1, features)."""
        return self._only(self.inputs, "inputs").shape

    @property
    def output_name(self) -> str:
        """Name of the one output."""
        return self._only(self.outputs, "outputs").name

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the one output."""
        return self._only(self.outputs, "outputs").shape

    def _only(self, ports: Ports, what: str) -> Port:
        if len(ports) != 1:
            raise UnsupportedError(
                f"{self.name} has {len(ports)} {what} ({', '.join(map(str, ports))}); this takes one"
            )
        return ports[0]

    @property
    def units(self) -> PixelUnits:
        """What raw data values become."""
        return PixelUnits(self.pixel_scale, self.mean, self.std, self.units_given)


@dataclass(frozen=True)
class Imported:
    """A source read by its importer, before canonicalization.

    Attributes
    ----------
    name : str
        The network's name.
    graph : onnx.ModelProto
        Float ONNX of any operators and opset.
    run : Callable or None
        The source runtime; None where it is not installed.
    provenance : str
        The source and, after it, the runtime that `run` uses or the reason why there is none.
    pixel_scale : float
        See `FloatModel`.
    mean, std, dataset
        See `FloatModel`.
    labels : tuple of str or None
        See `FloatModel`.
    channels_last : bool
        Inputs and outputs of four axes are (N, H, W, C).
    given : Given or None
        What a quantized source brings along; its quantizers are marks in `graph`, see `tapc.frontend.given`.
    states : tuple of State
        What is kept between calls, the last inputs and outputs of `graph`; as they lie there.
    detector : dict or None
        Fields of `tapc.base.detector.Detector` where outputs are its maps.
    """

    name: str
    graph: onnx.ModelProto
    run: Runner | None
    provenance: str
    pixel_scale: float = 1.0
    labels: tuple[str, ...] | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    dataset: str = ""
    channels_last: bool = False
    given: Given | None = None
    states: States = ()
    detector: dict[str, Any] | None = None

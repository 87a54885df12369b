"""torch modules: zoo networks and `file.py:callable`, exported through torch.onnx."""

import contextlib
import importlib.util
import inspect
import io
import signal
import sys
import threading
import traceback
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base.errors import DataError, UnsupportedError, UsageError
from tapc.base.ports import Port, joined, split
from tapc.frontend.model import Imported, Runner, one_by_one
from tapc.frontend.torch_examples import examples_of, shapes_of, silence, taken
from tapc.zoo.official import official_weights
from tapc.zoo.registry import ZooEntry, get, load_weights

if TYPE_CHECKING:
    import torch
    from torch import nn

_EXPORT_OPSET = 20
_BATCH = 32
_SAME = 1e-5


@dataclass(frozen=True)
class _Callable:
    path: Path
    name: str


OFFICIAL = "imagenet"
"""What `--weights` says for the official file."""


def read_zoo(entry: ZooEntry, weights: Path | None) -> Imported:
    """Export a zoo network.

    Parameters
    ----------
    entry : ZooEntry
    weights : pathlib.Path or None
        A file whose names and shapes tell which variant it is for; "imagenet" for the official one; None for those that
        tapc carries, or the official ones where it carries none.

    Raises
    ------
    DataError
        Missing, corrupt or unknown weights.
    """
    own = entry.bundled
    if weights is None and own is not None:
        variant, module = own, entry.module()
        origin = f"{own.weights} (bundled, sha256 {own.sha256[:12]}, {own.data})"
    elif weights is None or (str(weights) == OFFICIAL and not weights.exists()):
        path = official_weights(entry)
        variant, module = entry.fitting(path)
        origin = f"{path.name} (official, sha256 {variant.sha256[:12]}, {variant.data})"
    else:
        variant, module = entry.fitting(weights)
        origin = str(weights)
    imported = import_module(module, variant.input_shape, entry.name, f"zoo model {entry.name}, weights {origin}")
    return replace(
        imported,
        pixel_scale=variant.pixel_scale,
        mean=variant.mean,
        std=variant.std,
        labels=variant.labels or None,
        dataset=variant.dataset,
    )


_held: dict[int, Runner] = {}


def hold_zoo(name: str, weights: Path | None) -> tuple[Imported, int]:
    """Export a zoo network as `read_zoo` does, and keep its module here for `run_held`.

    Returns
    -------
    Imported
        Without the source's runtime, so that it can be sent to another process.
    int
        What `run_held` knows the module by.
    """
    imported = read_zoo(get(name), weights)
    assert imported.run is not None
    key = len(_held)
    _held[key] = imported.run
    return replace(imported, run=None), key


def run_held(key: int, x: NDArray[Any]) -> NDArray[Any]:
    """Run a module that `hold_zoo` kept on samples x (N, ...)."""
    return _held[key](x)


def read_callable(
    source: str, weights: Path | None, input_shape: tuple[int, ...] | None, seed: int, states: Collection[str] = ()
) -> Imported:
    """Call `file.py:callable` and export the module that it returns.

    Parameters
    ----------
    source : str
        `PATH.py:NAME`; NAME takes no arguments and returns an `nn.Module` or (module, example shape).
    weights : pathlib.Path or None
        Safetensors file or torch state dict to load into the module.
    input_shape : tuple of int or None
        Wins over the returned shape and over the module's attribute `input_shape`.
    seed : int
        torch seed while the callable runs, so that random weights are reproducible.
    states : collection of str
        Inputs that are states, whose shapes may be any.

    Raises
    ------
    UsageError
        Unknown callable, an exception in it, or no input shape.
    DataError
        Missing file, weights that do not fit or are not finite.
    """
    import torch
    from torch import nn

    path, _, name = source.rpartition(":")
    function = _attribute(Path(path), name)
    with torch.random.fork_rng(devices=[]), _user_code(source):
        torch.manual_seed(seed)
        made = function()
    module, shape = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(module, nn.Module):
        raise UsageError(f"{source} returned {type(module).__name__}; it must return an nn.Module or (module, shape)")
    shape = input_shape or (getattr(module, "input_shape", None) if shape is None else shape)
    if shape is None:
        raise UsageError(
            f"{source}: the input shape is unknown; return (module, (1, C, H, W)), set module.input_shape, "
            "or give the input shape as an option"
        )
    if weights is not None:
        load_weights(module, weights)
    origin = f"torch module {source}" + (f", weights {weights}" if weights is not None else "")
    return import_module(module, shape, name, origin, states)


def import_module(module: "nn.Module", shape: Any, name: str, origin: str, states: Collection[str] = ()) -> Imported:
    """Export a module in inference mode for batch 1.

    Parameters
    ----------
    module : torch.nn.Module
        Maps tensors to a tensor, or to a tuple, list or dictionary of them.
    shape : tuple of int, or several
        (1, C, H, W) or (1, features); the batch may be left out. (1, C, T), or (1, T, features), where the module takes
        it and no (1, 1, C, T). Of several inputs a tuple of shapes; an example tensor of integers in place of a shape
        says that the input holds tokens.
    name, origin : str
        The network's name and where it comes from.
    states : collection of str
        Inputs that are states: their shapes are taken as they are.

    Raises
    ------
    DataError
        A parameter or buffer holds NaN or infinite values.
    UnsupportedError
        Neither of torch's exporters can export the module.
    """
    import torch

    shapes = shapes_of(shape)
    names = _input_names(module, len(shapes), origin)
    module = module.eval()
    examples = taken(module, examples_of(dict(zip(names, shapes, strict=True)), origin, states), shapes)
    for key, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise DataError(f"parameter {key!r} holds NaN or infinite values; retrain or repair the model")
    graph = _export(module, examples, names, origin)
    run = _runner(module, examples, names)
    maps = getattr(module, "detector", None)
    return Imported(name, graph, run, f"{origin}, checked against torch {torch.__version__}",
                    detector=dict(maps) if isinstance(maps, dict) else None)  # fmt: skip


def _input_names(module: "nn.Module", count: int, origin: str) -> list[str]:
    """Return the names of a module's inputs; UsageError where it needs more than there are shapes."""
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        parameters = {}.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = [p.name for p in parameters if p.name in names and p.default is p.empty]
    if len(needed) > count:
        raise UsageError(
            f"{origin}: the network has inputs {needed} and {count} shape(s); give one for each, as "
            "((1, C, H, W), (1, features))"
        )
    if count == 1:
        return ["input"]
    return names[:count] if len(names) >= count else [f"input_{index}" for index in range(count)]


def _flat(value: Any) -> list[Any]:
    """Return the tensors in what a module gives, in order."""
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        return [tensor for part in value for tensor in _flat(part)]
    return [] if value is None else [value]


def _output_names(module: "nn.Module", examples: "list[torch.Tensor]") -> list[str]:
    import torch

    try:
        with silence(), torch.no_grad():
            given = module(*examples)
    except Exception:
        return ["output"]  # the exporter says what is wrong
    if isinstance(given, dict) and all(hasattr(value, "shape") for value in given.values()) and len(given) > 1:
        return [str(key) for key in given]
    count = len(_flat(given))
    return ["output"] if count == 1 else [f"output_{index}" for index in range(count)]


def _runner(module: "nn.Module", examples: "list[torch.Tensor]", names: list[str]) -> Runner:
    """Return a function that runs a module, in batches where that gives what single samples give."""
    import torch

    odd = any(example.shape[0] != 1 for example in examples)  # states that have the batch elsewhere, if at all
    extents = [(1, *example.shape) if odd else tuple(example.shape) for example in examples]
    ports = tuple(Port(*pair) for pair in zip(names, extents, strict=True))

    def once(x: NDArray[Any]) -> NDArray[Any]:
        inputs = [
            torch.from_numpy((value.reshape(example.shape) if odd else value).copy()).to(example.dtype)
            for value, example in zip(split(ports, x).values(), examples, strict=True)
        ]
        with torch.no_grad():
            found = [np.asarray(value.numpy()) for value in _flat(module(*inputs))]
        return joined([value.reshape(1, -1) for value in found] if odd else found)

    single = one_by_one(once)
    if odd:
        return single

    def run(x: NDArray[Any]) -> NDArray[Any]:
        parts = [x[start : start + _BATCH] for start in range(0, len(x), _BATCH)]
        return np.concatenate([_together(once, part) if len(part) > 1 else once(part) for part in parts])

    def _together(once: Runner, x: NDArray[Any]) -> NDArray[Any]:
        try:
            y = once(x)
        except Exception:
            return single(x)  # a module for batch 1
        ends = single(x[[0, -1]])
        close = (
            len(y) == len(x)
            and y.shape[1:] == ends.shape[1:]
            and np.allclose(y[[0, -1]], ends, rtol=_SAME, atol=_SAME * float(np.abs(ends).max()))
        )
        return y if close else single(x)

    return run


def _export(module: "nn.Module", examples: "list[torch.Tensor]", names: list[str], origin: str) -> onnx.ModelProto:
    """Export with the TorchScript exporter, which is fast and keeps module paths; else through torch.export."""
    import torch

    outputs = _output_names(module, examples)
    options: dict[str, Any] = {"opset_version": _EXPORT_OPSET, "input_names": names, "output_names": outputs}
    try:
        with silence(), torch.no_grad():
            buffer = io.BytesIO()
            # The exporter would fold BatchNormalization by roots whose last bit depends on the CPU's maker.
            kept = torch.onnx.TrainingMode.PRESERVE
            torch.onnx.export(module, tuple(examples), cast(Any, buffer), dynamo=False, training=kept, **options)
        return onnx.load_from_string(buffer.getvalue())
    except (Exception, SystemExit) as first:
        try:
            with silence(), torch.no_grad():
                program = torch.onnx.export(module, tuple(examples), dynamo=True, verbose=False, **options)
            assert program is not None
            return program.model_proto
        except (Exception, SystemExit) as error:
            reason = str(first).strip().splitlines() or [repr(error)]
            raise UnsupportedError(f"{origin}: torch.onnx.export failed: {reason[0]}") from error


@contextlib.contextmanager
def _user_code(source: str) -> Iterator[None]:
    """Make what the user's code raises an error of the user's; an interruption by the user stays one.

    Nothing is compiled into `__pycache__` folders beside it.
    """
    interrupted = False
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    previous = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread() and callable(previous)

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        assert callable(previous)
        previous(number, frame)

    if main:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # code that ends the program does not end tapc
        if isinstance(error, KeyboardInterrupt) and interrupted:
            raise
        frames = traceback.extract_tb(error.__traceback__)
        where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
        text = traceback.format_exception_only(error)[-1].strip()  # whatever its __str__ does
        raise UsageError(f"{source} failed: {text}{where}") from error
    finally:
        sys.dont_write_bytecode = writes
        if main:
            signal.signal(signal.SIGINT, previous)


def _attribute(path: Path, name: str) -> Any:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    namespace = importlib.util.module_from_spec(spec)
    with _user_code(str(path)):
        spec.loader.exec_module(namespace)
    found = getattr(namespace, name, None)
    if not callable(found):
        known = sorted(key for key, value in vars(namespace).items() if callable(value) and not key.startswith("_"))
        raise UsageError(f"{path} has no callable {name!r}; it has: {', '.join(known) or 'none'}")
    return found

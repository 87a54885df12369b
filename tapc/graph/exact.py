"""What the integers of a kept network need that a QDQ graph has no words for; its metadata say it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx

from tapc.base.errors import DataError

_KEY = "tapc.exact"


@dataclass(frozen=True)
class Exact:
    """Exceptions from how a QDQ graph is read.

    Attributes
    ----------
    single : frozenset of str
        Layers whose ratio of scales is computed in float32.
    wide : mapping of str to (float, int)
        Outputs of 32-bit codes -> scale and zero point; the graph has what they are made of.
    short : frozenset of str
        Layers of 16-bit codes whose sums have 32 bits.
    kept : bool
        Some codes of a kept network have 16 bits: its functions are not tables of tapc's own.
    """

    single: frozenset[str] = frozenset()
    wide: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    short: frozenset[str] = frozenset()
    kept: bool = False


def set_exact(
    model: onnx.ModelProto,
    single: Sequence[str],
    wide: Mapping[str, tuple[float, int]],
    short: Sequence[str] = (),
    *,
    kept: bool = False,
) -> None:
    """Write the exceptions into a graph's metadata; none where there are none."""
    others = {entry.key: entry.value for entry in model.metadata_props if entry.key != _KEY}
    parts = {"single": list(single), "wide": wide, "short": list(short), "kept": kept}
    own = {_KEY: json.dumps(parts)} if any(parts.values()) else {}
    onnx.helper.set_model_props(model, others | own)


def exact(model: onnx.ModelProto) -> Exact:
    """Return the exceptions that a graph's metadata tell.

    Raises
    ------
    DataError
        They are damaged.
    """
    text = next((entry.value for entry in model.metadata_props if entry.key == _KEY), None)
    if text is None:
        return Exact()
    try:
        own = json.loads(text)
        wide = {str(name): (float(scale), int(zero)) for name, (scale, zero) in own["wide"].items()}
        short = frozenset(map(str, own.get("short", ())))
        return Exact(frozenset(map(str, own["single"])), wide, short, bool(own.get("kept")))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"the metadata {_KEY} of the graph are damaged: {error}") from error

"""Manual bit choices from a TOML file; they win over the allocator, the offered widths and the pins."""

import difflib
import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field, StrictInt

from tapc.base.errors import UsageError
from tapc.graph.network import ACTIVATION_BITS, WEIGHT_BITS, WIDE_BITS, Network
from tapc.hardware.board import Schema, read_schema


class Overrides(Schema):
    """The file's content.

    Attributes
    ----------
    weights : dict of str to int
        Layer name -> 2, 4 or 8.
    activations : dict of str to int
        Tensor name, or layer name for the tensor that the layer reads -> 4 or 8, or 16 for a name or a pattern of
        names. All tensors coupled with it follow.
    """

    weights: dict[str, StrictInt] = Field(default_factory=dict)
    activations: dict[str, StrictInt] = Field(default_factory=dict)


@dataclass(frozen=True)
class ResolvedOverrides:
    """Overrides of one network: layer name -> weight bits, group index -> activation bits."""

    weights: dict[str, int] = field(default_factory=dict)
    groups: dict[int, int] = field(default_factory=dict)


def load_overrides(path: Path) -> Overrides:
    """Read an overrides file.

    Raises
    ------
    DataError
        The file cannot be read, is no TOML, or holds anything but the tables `weights` and `activations` of whole
        numbers.
    """
    return read_schema(path, Overrides, "overrides")


def resolve_overrides(overrides: Overrides, network: Network) -> ResolvedOverrides:
    """Match overrides with a network's layers and activation groups.

    Raises
    ------
    UsageError
        A name that the network lacks (with close matches), a width that tapc does not have, a width other than 8
        for the network's input or output, or two widths for one group.
    """
    layers = {layer.name: layer.input_group for layer in network.layers}
    tensors = {tensor: i for i, group in enumerate(network.groups) for tensor in group.tensors}
    groups_by_name = layers | tensors
    groups: dict[int, int] = {}
    source: dict[int, str] = {}
    for name, bits in overrides.weights.items():
        _check("weights", name, bits, layers, WEIGHT_BITS)
    for name, bits in overrides.activations.items():
        if bits == WIDE_BITS and (matches := fnmatch.filter(groups_by_name, name)):
            if all(network.groups[groups_by_name[match]].bits != WIDE_BITS for match in matches):
                raise UsageError(f'override [activations] "{name}" = 16: only `tapc compile` gives activations 16 bits')
            continue  # they have them already
        _check("activations", name, bits, groups_by_name, (*ACTIVATION_BITS, WIDE_BITS))
        group = groups_by_name[name]
        if network.groups[group].interface and bits != network.groups[group].bits:
            raise UsageError(
                f'override [activations] "{name}" = {bits}: it is, or is coupled with, the network\'s input or '
                f"output, which stays at {network.groups[group].bits} bits; remove the line"
            )
        if groups.setdefault(group, bits) != bits:
            raise UsageError(
                f'overrides [activations] "{source[group]}" = {groups[group]} and "{name}" = {bits} contradict each '
                "other: these tensors are coupled and share one width; give both the same"
            )
        source.setdefault(group, name)
    return ResolvedOverrides(dict(overrides.weights), groups)


def _check(table: str, name: str, bits: int, known: Iterable[str], allowed: tuple[int, ...]) -> None:
    names = list(known)
    if name not in names:
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"known: {', '.join(names[:20])}"
        raise UsageError(f'override [{table}] "{name}": the network has no such name; {hint}')
    if bits not in allowed:
        raise UsageError(
            f'override [{table}] "{name}" = {bits}: not allowed; give one of {", ".join(map(str, allowed))}'
        )

"""Which activations have 16 bits: those that a user names, all that may, or those whose 8 bits alone cost too much."""

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from tapc.allocate import load_overrides
from tapc.base.errors import UsageError
from tapc.base.options import Options
from tapc.frontend import FloatModel
from tapc.graph.network import WIDE_BITS, Network
from tapc.quantize import Calibration
from tapc.quantize.runtime import Float
from tapc.quantize.widths import decibels_alone

_LISTED = 12
_SHARED = "an operator without kernels for 16 bits reads or writes them"


@dataclass(frozen=True)
class Widened:
    """A network some of whose activations have 16 bits.

    Attributes
    ----------
    network : Network
    options : Options
        What is left to choose.
    notes : tuple of str
        Which activations have 16 bits, and why, for the report.
    """

    network: Network
    options: Options
    notes: tuple[str, ...] = ()


def widened(model: FloatModel, network: Network, calibration: Calibration, x: Float, options: Options) -> Widened:
    """Give groups of activations 16 bits.

    Raises
    ------
    UsageError
        A name of which no activation may have 16 bits, or options that do not go together.
    """
    network, kept_narrow, why = _narrowed(network, options)
    named = _named(network, options)
    offered = WIDE_BITS in options.abits
    back = [i for i, group in enumerate(network.groups) if group.bits == WIDE_BITS]
    notes = [f"16-bit activations, which come back in the next call: {_listed(network, back)}"] if back else []
    if kept_narrow:
        notes.append(f"8-bit activations, {why}: {_listed(network, sorted(kept_narrow))}")
    if not named and not offered:
        return Widened(network, options, tuple(notes))
    if 4 in options.abits:
        raise UsageError("activations of 4 bits beside some of 16 have no kernels; give --abits 8, 16 or 8,16")
    for option, value, usual in (("granularity", options.granularity, "layer"), ("stream", options.stream, None)):
        if value != usual:
            raise UsageError(f"--{option} {value} does not go with activations of 16 bits; leave out either")
    taken = {*named, *back, *kept_narrow}
    open_ = [i for i, group in enumerate(network.groups) if group.wide and not group.outside and i not in taken]
    chosen = set(named)
    if named:
        notes.append(f"16-bit activations as named in {options.overrides}: {_listed(network, sorted(named))}")
    if options.abits == (WIDE_BITS,):
        chosen |= set(open_)
        notes.append(f"16-bit activations: {_listed(network, open_) or 'none'}")
    elif offered:
        kept = decibels_alone(model, network, calibration, x, open_)
        lossy = [i for i in open_ if kept[i] < options.abits_limit]
        chosen |= set(lossy)
        notes.append(
            f"16-bit activations, as 8 bits there alone leave less than {options.abits_limit:g} dB of the outputs: "
            f"{_listed(network, lossy, kept) or 'none'}"
        )
        rest = [i for i in open_ if i not in chosen]
        if rest:
            notes.append(f"8-bit activations, which leave as much or more: {_listed(network, rest, kept)}")
    shut = [i for i, group in enumerate(network.groups) if i not in {*chosen, *back} and not group.wide]
    if shut and offered:
        notes.append(f"8-bit activations, since {_SHARED}: {_listed(network, shut)}")
    groups = tuple(
        replace(group, interface=True, bits=WIDE_BITS) if i in chosen else group
        for i, group in enumerate(network.groups)
    )
    return Widened(replace(network, groups=groups), replace(options, abits=(8,)), tuple(notes))


def _narrowed(network: Network, options: Options) -> tuple[Network, set[int], str]:
    """Return the network in which what comes back has 8 bits where something asks for it, these groups, and why."""
    found = {i for i, group in enumerate(network.groups) if group.bits == WIDE_BITS}
    why = "though they come back in the next call: --granularity and --stream go without 16 bits"
    if options.granularity == "layer" and options.stream is None:
        why = f"as named in {options.overrides}"
        given = {} if options.overrides is None else load_overrides(options.overrides).activations
        narrow = [name for name, bits in given.items() if bits == 8]
        own = _groups_by_name(network).items()
        found &= {group for name, group in own if any(fnmatchcase(name, pattern) for pattern in narrow)}
    groups = tuple(replace(group, bits=8) if i in found else group for i, group in enumerate(network.groups))
    return replace(network, groups=groups), found, why


def _groups_by_name(network: Network) -> dict[str, int]:
    known = {layer.name: layer.input_group for layer in network.layers}
    return known | {tensor: i for i, group in enumerate(network.groups) for tensor in group.tensors}


def _named(network: Network, options: Options) -> set[int]:
    """Return the groups that the overrides file names, by tensors, layers that read them, or patterns of either."""
    if options.overrides is None:
        return set()
    wanted = [name for name, bits in load_overrides(options.overrides).activations.items() if bits == WIDE_BITS]
    known = _groups_by_name(network)
    found: set[int] = set()
    for pattern in wanted:
        groups = {group for name, group in known.items() if fnmatchcase(name, pattern)}
        own = {group for group in groups if network.groups[group].wide}
        if groups and not own:
            raise UsageError(f'override [activations] "{pattern}" = 16: {_SHARED}; leave it at 8')
        found |= own
    return found


def _listed(network: Network, groups: list[int], kept: dict[int, float] | None = None) -> str:
    shown = [
        network.groups[i].tensors[0] + ("" if kept is None or i not in kept else f" ({kept[i]:.1f} dB)")
        for i in groups[:_LISTED]
    ]
    return ", ".join(shown) + (f" and {len(groups) - _LISTED} more" if len(groups) > _LISTED else "")

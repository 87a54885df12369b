"""Samples in memory: what every reader returns, random ones, and whether two sets overlap."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tapc.base.ports import Port, Ports, joined
from tapc.data.units import PixelUnits

RANDOM_BYTES = 256 << 20
"""Most bytes of random inputs."""

Split = Literal["calibration", "train", "test", "all"]


@dataclass(frozen=True)
class Samples:
    """Inputs of a network.

    Attributes
    ----------
    x : float32 (N, *input_shape[1:])
        In the network's input units, NCHW.
    y : int64 (N,) or float32 (N, K) or None
        Class indices, or K targets per sample, where the data has them.
    source : str
        Where they come from, for reports.
    labels : tuple of str or None
        Names of the classes in the order of their indices, where the data has them.
    units : PixelUnits
        What was done to the raw values.
    raw : (float, float) or None
        Least and largest raw value.
    pictures : bool
        They are pictures: mirrored or shifted by a few pixels they show the same.
    unlabelled : str
        Why `y` is None.
    warnings : tuple of str
        What is doubtful about them.
    whole : bool
        Raw values are integers or pixels.
    steps : int
        Samples of a sequence, of a network that keeps something between calls: so many follow each other, then the next
        sequence begins. 0 where samples have nothing to do with each other.
    labelled : int
        Every so manieth sample's label counts: that of a sequence is about its last step.
    fields : int
        Labels are rows of so many values, as boxes of 5; 0 where they are no rows.
    """

    x: NDArray[np.float32]
    y: NDArray[Any] | None
    source: str
    labels: tuple[str, ...] | None = None
    units: PixelUnits = field(default_factory=PixelUnits)
    raw: tuple[float, float] | None = None
    pictures: bool = False
    unlabelled: str = ""
    warnings: tuple[str, ...] = ()
    whole: bool = False
    steps: int = 0
    labelled: int = 1
    fields: int = 0


def random_samples(
    shape: tuple[int, ...] | Ports, count: int, seed: int, low: float = 0.0, high: float = 1.0
) -> Samples:
    """Return random inputs where there is no data: 256 levels from low to high, as an 8-bit sensor gives.

    Parameters
    ----------
    shape : tuple of int or of Port
        The network's input shape with batch 1, or its inputs. Tokens are any of those that there are.
    count, seed : int
        Fewer than `count` where they would take more than `RANDOM_BYTES`.
    low, high : float
        Range in the network's input units.
    """
    ports = as_ports(shape)
    count = min(count, max(1, RANDOM_BYTES // (4 * sum(port.size for port in ports))))
    generator = np.random.default_rng(seed)
    parts = []
    for port in ports:
        size = (count, *port.shape[1:])
        if port.tokens:
            parts.append(generator.integers(0, port.tokens, size).astype(np.float32))
            continue
        part = generator.integers(0, 256, size, np.uint8).astype(np.float32)
        part *= np.float32((high - low) / 255.0)
        part += np.float32(low)
        parts.append(part)
    x = joined(parts)
    if len(ports) == 1 and ports[0].tokens:
        low, high = 0.0, ports[0].tokens - 1.0
    what = "any tokens" if all(port.tokens for port in ports) else f"uniform in [{low:g}, {high:g}]"
    source = f"random: {count} inputs, {what}, seed {seed}; not real data"
    return Samples(x, None, source, raw=(low, high), unlabelled="random inputs have no labels")


def as_ports(shape: tuple[int, ...] | Ports) -> Ports:
    """Return a network's inputs; a shape with batch 1 is that of the one."""
    ports = tuple(value for value in shape if isinstance(value, Port))
    return ports or (Port("x", tuple(value for value in shape if not isinstance(value, Port))),)


def in_order(samples: Samples, classes: tuple[str, ...] | None) -> Samples:
    """Give classes the numbers that the network gives them, where both have names for them.

    Parameters
    ----------
    samples : Samples
    classes : tuple of str or None
        Of the network, in the order of its outputs.

    Returns
    -------
    Samples
        With a warning where as many classes have other names.
    """
    names = samples.labels
    if samples.y is None or names is None or classes is None or names == classes:
        return samples
    if samples.fields:
        return _boxes_in_order(samples, names, classes)
    if set(names) == set(classes):
        order = np.array([classes.index(name) for name in names], np.int64)
        return replace(samples, y=order[samples.y], labels=classes)
    if len(names) != len(classes):
        return samples
    text = f"{samples.source}: classes {', '.join(names[:4])} ..., the network's are {', '.join(classes[:4])} ..."
    return replace(samples, warnings=(*samples.warnings, f"{text}: numbered in their sorted order"))


def _boxes_in_order(samples: Samples, names: tuple[str, ...], classes: tuple[str, ...]) -> Samples:
    """Give boxes the network's classes; those of others are dropped, with a warning."""
    assert samples.y is not None
    table = np.array([classes.index(name) if name in classes else -1 for name in names] + [-1], np.float32)
    boxes = samples.y.reshape(len(samples.y), -1, samples.fields).copy()
    boxes[:, :, 0] = table[boxes[:, :, 0].astype(np.int64)]
    left = [name for name in names if name not in classes]
    text = f"{samples.source}: the network does not know {', '.join(left[:4])}{' ...' if len(left) > 4 else ''}"
    warnings = (*samples.warnings, *([f"{text}: boxes of these do not count"] if left else ()))
    return replace(samples, y=boxes.reshape(samples.y.shape), labels=classes, warnings=warnings)


def overlap(used: Samples, test: Samples, use: str = "calibrated") -> tuple[str, ...]:
    """Return a warning where samples that were used otherwise are test samples, too."""
    tested = [sample.tobytes() for sample in test.x]
    wanted = set(tested)  # of the test samples: those to train with can be too many to keep twice
    found = {content for sample in used.x if (content := sample.tobytes()) in wanted}
    both = sum(content in found for content in tested)
    if not both:
        return ()
    return (f"{both} of {len(test.x)} test samples were also {use} on: accuracy may look too good",)

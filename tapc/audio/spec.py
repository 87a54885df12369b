"""What a front end computes, and where it is written down: presets and TOML files."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from tapc.base.errors import DataError, UsageError
from tapc.base.files import read_regular

Kind = Literal["mfcc", "log-mel"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_MOST_FILE = 1 << 16
_MOST_FFT, _LEAST_FFT, _MOST_FILTERS = 4096, 64, 128


@dataclass(frozen=True)
class FrontEnd:
    """Features of audio, by TensorFlow's definitions of them.

    Attributes
    ----------
    kind : {"mfcc", "log-mel"}
        Coefficients of the cosine transform of the logarithms, or the logarithms.
    rate : int
        Samples a second.
    window, hop : int
        Samples that a column of features is computed of, and from one column to the next.
    fft : int
        Length of the transform, a power of two; zeros follow the window.
    shape : {"hann", "hamming"}
        Of the window, periodic.
    spectrum : {"magnitude", "power"}
        What the filters add up.
    filters : int
        Triangles, equally wide in mel.
    low, high : float
        Where the first begins and the last ends, in Hz.
    floor : float
        Keeps the logarithm finite; samples are from -1 to 1 for it.
    floored : {"add", "max"}
        It is added to what a filter gives, or is the least that it gives.
    log : {"e", "2", "10", "db"}
        The logarithm's base, or ten times that of 10.
    coefficients : int
        The first ones that are kept of an MFCC.
    normalize : {"none", "peak"}
        Clips are divided by their greatest sample first; a stream has the level that it is given.
    """

    kind: Kind = "mfcc"
    rate: int = 16000
    window: int = 480
    hop: int = 320
    fft: int = 512
    shape: Literal["hann", "hamming"] = "hann"
    spectrum: Literal["magnitude", "power"] = "magnitude"
    filters: int = 40
    low: float = 20.0
    high: float = 4000.0
    floor: float = 1e-6
    floored: Literal["add", "max"] = "add"
    log: Literal["e", "2", "10", "db"] = "e"
    coefficients: int = 10
    normalize: Literal["none", "peak"] = "none"

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if (choices := get_args(hint)) and value not in choices:
                raise UsageError(f"front end: {name} is {value!r}, and may be {', '.join(choices)}")
            if hint in (int, float) and (isinstance(value, bool) or not isinstance(value, int | hint)):
                raise UsageError(f"front end: {name} is {value!r}, and must be a number")
        bounds = {
            "rate": (1, 1 << 20), "fft": (_LEAST_FFT, _MOST_FFT), "window": (2, self.fft), "hop": (1, 1 << 20),
            "filters": (1, _MOST_FILTERS), "low": (0, self.high), "high": (self.low, self.rate / 2),
            "floor": (1e-12, 1), "coefficients": (1, self.filters),
        }  # fmt: skip
        for name, (least, most) in bounds.items():
            if not least <= getattr(self, name) <= most:  # NaN too
                raise UsageError(f"front end: {name} is {getattr(self, name)}, and must be from {least:g} to {most:g}")
        if self.fft & (self.fft - 1):
            raise UsageError(f"front end: fft is {self.fft}, and must be a power of two")
        if self.low == self.high:
            raise UsageError("front end: the filters begin where they end; give low and high")

    @property
    def features(self) -> int:
        """Values of a column."""
        return self.coefficients if self.kind == "mfcc" else self.filters

    @property
    def per_octave(self) -> float:
        """What a factor of two adds to a logarithm."""
        return {"e": math.log(2), "2": 1.0, "10": math.log10(2), "db": 10 * math.log10(2)}[self.log]

    def samples(self, columns: int) -> int:
        """Return the samples of a clip that gives so many columns."""
        return self.window + (columns - 1) * self.hop


@dataclass(frozen=True)
class Quantization:
    """What codes of 8 bits mean: value = scale * (code - zero)."""

    scale: float
    zero: int

    def __post_init__(self) -> None:
        if not (1e-4 <= self.scale <= 1e4 and -128 <= self.zero <= 127):
            raise UsageError(
                f"front end: features cannot be codes of scale {self.scale:g} and zero point {self.zero}; "
                "scales from 1e-4 to 1e4 and zero points of int8 can"
            )


PRESETS: Mapping[str, FrontEnd] = {"kws01": FrontEnd(normalize="peak")}
"""kws01: MLPerf Tiny's keyword spotting, windows of 30 ms every 20 ms at 16 kHz."""


def front_end(text: str) -> FrontEnd:
    """Return what `--front-end` names: KIND:PRESET, or a TOML file of `FrontEnd`'s fields.

    Raises
    ------
    UsageError
        There is no such preset; a field that is none, or a value that it does not take.
    DataError
        The file cannot be read.
    """
    kind, colon, preset = text.partition(":")
    if colon and kind in KINDS:
        if preset not in PRESETS:
            raise UsageError(f"there is no front end {text}; presets: {', '.join(PRESETS)}")
        return replace(PRESETS[preset], kind=kind)
    if not text.endswith(".toml"):
        names = [f"{kind}:{name}" for kind in KINDS for name in PRESETS]
        raise UsageError(f"front end {text!r} is none of {', '.join(names)}, and no .toml file")
    try:
        values: dict[str, Any] = tomllib.loads(read_regular(Path(text), _MOST_FILE, "front end").decode("utf-8"))
    except OSError as error:
        raise DataError(f"{text} cannot be read: {error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{text} is no TOML file: {error}") from error
    known = [field.name for field in fields(FrontEnd)]
    if unknown := [name for name in values if name not in known]:
        raise UsageError(f"{text}: there is no {unknown[0]}; a front end has {', '.join(known)}")
    return FrontEnd(**values)

"""What a library's header and README tell about it; nothing of it changes what the network computes."""

from dataclasses import dataclass

from tapc.data import PixelUnits


@dataclass(frozen=True)
class Facts:
    """What is known when a library is written, or after its firmware was measured.

    Attributes
    ----------
    core, board : str
        What it was made for.
    flags : tuple of str
        The compiler's options that tell the core.
    units : PixelUnits or None
        What the network takes for a raw value; None where nothing is known about raw values.
    bytes_in : bool
        Whether raw values are integers of 8 bits.
    labels : tuple of str
        Names of the outputs.
    bits : tuple of str
        A line for each layer.
    stack : int or None
        Measured bytes.
    accuracy : tuple of str
        What was proved and measured.
    kept : str
        What the source is whose scales and integers these are; empty where tapc chose them.
    arithmetic : str
        How integers round.
    command, sha256 : str
        What made the library: the command, and the digest of model.onnx.
    sources : tuple of str
        C files that the library needs beside those of every library.
    remarks : tuple of str
        What its README tells besides.
    """

    core: str = ""
    board: str = ""
    flags: tuple[str, ...] = ()
    units: PixelUnits | None = None
    bytes_in: bool = False
    labels: tuple[str, ...] = ()
    bits: tuple[str, ...] = ()
    stack: int | None = None
    accuracy: tuple[str, ...] = ()
    kept: str = ""
    arithmetic: str = ""
    command: str = ""
    sha256: str = ""
    sources: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

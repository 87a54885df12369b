"""The layers of the kernel benchmark, and what published kernels need for them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """A published kernel's cost of a layer.

    Attributes
    ----------
    name : str
    per_operation : float
        Instructions per MAC, or per element of an addition.
    """

    name: str
    per_operation: float


@dataclass(frozen=True)
class Layer:
    """A benchmark layer.

    Attributes
    ----------
    name : str
    height, width, inputs, outputs : int
        Of the input image, and channels. Padding keeps the image's size.
    kernel : int
        Its side, or its taps where the image is one line.
    groups : int
    kind : {"conv", "add"}
    pool : int
        Side of the windows of a max-pooling behind a convolution; 1 for none.
    peers : dict of int to tuple
        Weight bits -> (name, instructions per MAC) of the best published kernel for 8-bit activations; an addition's
        count is per element.
    """

    name: str
    height: int
    width: int
    inputs: int
    outputs: int
    kernel: int
    groups: int
    kind: str
    peers: dict[int, tuple[str, float]]
    pool: int = 1

    def peer(self, core: str, w_bits: int, a_bits: int) -> Peer | None:
        """Return the best published kernel for these bits on cores that execute the same instructions."""
        best = self.peers.get(w_bits)
        return Peer(*best) if best is not None and a_bits == 8 and core in PEER_CORES else None

    @property
    def operations(self) -> int:
        """Multiply-accumulates, or elements of an addition."""
        if self.kind == "add":
            return self.height * self.width * self.outputs
        taps = self.rows * self.kernel * self.inputs // self.groups
        return self.height * self.width * self.outputs * taps

    @property
    def rows(self) -> int:
        """Height of the kernel."""
        return self.kernel if self.height > 1 else 1


SOURCE = (
    "peers: measured with the same counter on Cortex-M7 and M4 (within 3 % of each other), gcc 12.2 -Ofast, "
    "whole calls: "
    "CMSIS-NN of July 2026, TinyEngine of November 2024 (best of its variants), CMix-NN of March 2020"
)

PEER_CORES = ("cortex-m4", "cortex-m7")

_CMSIS, _TINY, _CMIX = "CMSIS-NN", "TinyEngine", "CMix-NN"

LAYERS = (
    Layer("conv 3x3, 3->16, 32x32", 32, 32, 3, 16, 3, 1, "conv", {8: (_CMSIS, 4.86)}),
    Layer("conv 3x3, 16->16, 32x32", 32, 32, 16, 16, 3, 1, "conv", {8: (_CMSIS, 2.33)}),
    Layer("conv 3x3, 16->16, 32x32, max-pooling 2x2", 32, 32, 16, 16, 3, 1, "conv", {}, 2),
    Layer("conv 3x3, 32->32, 16x16", 16, 16, 32, 32, 3, 1, "conv",
          {8: (_CMIX, 1.77), 4: (_CMIX, 2.15), 2: (_CMIX, 2.20)}),
    Layer("conv 3x3, 64->64, 8x8", 8, 8, 64, 64, 3, 1, "conv",
          {8: (_CMIX, 1.66), 4: (_CMIX, 2.04), 2: (_CMIX, 2.09)}),
    Layer("conv 1x3, 64->64, 1x128", 1, 128, 64, 64, 3, 1, "conv", {}),
    Layer("conv 1x3, 16->32, 1x128", 1, 128, 16, 32, 3, 1, "conv", {}),
    Layer("conv 1x5, 32->32, 1x128", 1, 128, 32, 32, 5, 1, "conv", {}),
    Layer("conv 1x1, 64->64, 25x5", 25, 5, 64, 64, 1, 1, "conv",
          {8: (_CMIX, 1.91), 4: (_CMIX, 2.32), 2: (_CMIX, 2.40)}),
    Layer("conv 1x1, 128->128, 6x6", 6, 6, 128, 128, 1, 1, "conv", {8: (_CMSIS, 1.80)}),
    Layer("depthwise 3x3, 64, 25x5", 25, 5, 64, 64, 3, 64, "conv", {8: (_CMSIS, 8.25)}),
    Layer("depthwise 3x3, 32, 24x24", 24, 24, 32, 32, 3, 32, "conv",
          {8: (_TINY, 8.31), 4: (_CMIX, 13.6), 2: (_CMIX, 13.6)}),
    Layer("conv 1x1, 16->32, 24x24", 24, 24, 16, 32, 1, 1, "conv", {8: (_CMSIS, 3.92)}),
    Layer("dense 640->128", 1, 1, 640, 128, 1, 1, "conv", {8: (_CMSIS, 1.95), 4: (_CMSIS, 4.95)}),
    Layer("add 16, 32x32", 32, 32, 16, 16, 1, 1, "add", {8: (_CMSIS, 81.5)}),
)  # fmt: skip

"""Write TFLite files that begin with spectra, as tf.signal.stft and its kin are converted."""

from typing import Any

import numpy as np

from frontend.tflite_builder import TfliteBuilder, schema

_COMPLEX64 = schema.TensorType.COMPLEX64


class SpectrumBuilder(TfliteBuilder):
    """Adds transforms, and what reads complex tensors."""

    def integers(self, *values: Any) -> int:
        return self.constant(np.array(values, np.int32))

    def complex(self, kind: str, inputs: list[int], shape: tuple[int, ...], table: str = "", **options: Any) -> int:
        made = self.operator(kind, inputs, shape, table, **options)
        self.graph.tensors[made].type = _COMPLEX64
        return made

    def rfft(self, x: int, width: int, height: int = 1) -> int:
        shape = (*self.graph.tensors[x].shape[:-2], height, width // 2 + 1)
        return self.complex("RFFT2D", [x, self.integers(height, width)], shape, "Rfft2dOptions")

    def part(self, kind: str, x: int) -> int:
        """Add COMPLEX_ABS, REAL or IMAG."""
        return self.operator(kind, [x], tuple(self.graph.tensors[x].shape))

    def frames(self, x: int, length: int, hop: int) -> int:
        """Cut (1, samples) into (1, frames, length), as tf.signal.frame does; hops divide the length."""
        parts, per = self.graph.tensors[x].shape[1] // hop, length // hop
        places = np.arange(parts - per + 1)[:, None] + np.arange(per)
        cut = self.reshape(x, 1, parts, hop)
        index = self.constant(places.astype(np.int32))
        taken = self.operator("GATHER", [cut, index], (1, *places.shape, hop), "GatherOptions", axis=1)
        return self.reshape(taken, 1, len(places), length)

    def windowed(self, x: int) -> int:
        """Multiply by Hann's window."""
        shape = tuple(self.graph.tensors[x].shape)
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(shape[-1]) / shape[-1])
        return self.operator("MUL", [x, self.constant(window.astype(np.float32))], shape, "MulOptions")

    def padded(self, x: int, *ends: tuple[int, int]) -> int:
        shape = tuple(n + sum(end) for n, end in zip(self.graph.tensors[x].shape, ends, strict=True))
        return self.operator("PAD", [x, self.integers(*ends)], shape, "PadOptions")


def log_mel(samples: int = 160, length: int = 64, hop: int = 32, fft: int = 64, bands: int = 8) -> bytes:
    """Return frames, a window, spectra, bands of magnitudes and their logarithms, (1, frames, bands)."""
    b = SpectrumBuilder(1, samples)
    x = b.windowed(b.frames(b.input, length, hop))
    count, bins = b.graph.tensors[x].shape[1], fft // 2 + 1
    if fft > length:
        x = b.padded(x, (0, 0), (0, 0), (0, fft - length))
    spectrum = b.rfft(b.reshape(x, 1, count, 1, fft), fft)
    shape = (1, count, bins)
    size = b.part("COMPLEX_ABS", b.complex("RESHAPE", [spectrum, b.integers(*shape)], shape, "ReshapeOptions"))
    mel = np.maximum(0, 1 - np.abs(np.arange(bins)[:, None] * (bands + 1) / bins - np.arange(1, bands + 1)))
    y = b.operator("BATCH_MATMUL", [size, b.constant(mel.astype(np.float32))], (1, count, bands), "BatchMatMulOptions")
    y = b.operator("ADD", [y, b.constant(np.array(0.01, np.float32))], (1, count, bands), "AddOptions")
    return b.finish(b.operator("LOG", [y], (1, count, bands)))

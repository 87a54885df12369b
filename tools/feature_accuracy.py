"""How far features that a network makes of its samples are from float, on the device, with 8 and with 16 bits.

python tools/feature_accuracy.py

Frames of 256 samples at 16 kHz, half overlapping, windowed, 129 bins, 20 mel filters: of power or of magnitudes, then
logarithms (with a floor of 0.01 or 0.1), a root, or nothing; with and without the mean over time taken off. Sounds are
four gliding tones each and noise 20 to 40 dB below them.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray

from tapc.base.options import Options
from tapc.flow.widths import widened
from tapc.frontend import load
from tapc.graph.analysis import analyse
from tapc.lower import lower
from tapc.lower.codes import input_codes, values
from tapc.lower.reference import execute
from tapc.quantize import calibrate, evaluate, quantize, uniform_bits

SAMPLES, FRAME, MELS, RATE = 2048, 256, 20, 16000
SPECTRA = ("power", "magnitude")
ENDS = ("log", "log, normalized", "root", "")


class Features(torch.nn.Module):
    """Features of sounds (1, SAMPLES)."""

    def __init__(self, spectrum: str, end: str) -> None:
        super().__init__()
        self.spectrum, self.end = spectrum, end
        bins = np.arange(FRAME // 2 + 1)
        edges = np.linspace(1, FRAME // 2, MELS + 2)
        low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
        mel = np.clip(np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)), 0, None)
        self.register_buffer("window", torch.hann_window(FRAME))
        self.register_buffer("mel", torch.tensor(mel, dtype=torch.float32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (1, MELS, frames)."""
        z = torch.stft(x, FRAME, FRAME // 2, window=self.get_buffer("window"), center=False, return_complex=True)
        power = torch.view_as_real(z).square().sum(-1)
        whole = self.spectrum == "power"
        found = torch.matmul(self.get_buffer("mel"), power if whole else power.sqrt())
        if self.end.startswith("log"):
            found = torch.log(found + (1e-2 if whole else 1e-1))
        elif self.end == "root":
            found = found.pow(0.25 if whole else 0.5)
        return found - found.mean(dim=2, keepdim=True) if self.end.endswith("normalized") else found


def sounds(count: int) -> NDArray[np.float32]:
    """Return sounds, shape (count, SAMPLES)."""
    rng, t = np.random.default_rng(0), np.arange(SAMPLES) / RATE
    made = []
    for _ in range(count):
        tones = [
            rng.uniform(0, 0.2) * np.sin(2 * np.pi * rng.uniform(50, 6000) * t * (1 + rng.uniform(-2.4, 2.4) * t))
            for _ in range(4)
        ]
        made.append((np.sum(tones, axis=0) + rng.normal(0, 0.01, SAMPLES)) * rng.uniform(0.1, 1))
    return np.array(made, np.float32)


def decibels(path: Path, abits: int, x: NDArray[np.float32]) -> float:
    """Return signal over error of the device's codes; the network's inputs and outputs have 8 bits."""
    model = load(path)
    calibration, network = calibrate(model, x[:64], seed=0), analyse(model.onnx, "net")
    network = widened(model, network, calibration, x[:64], Options(abits=(abits,))).network
    bits = uniform_bits(network, 8, 8)
    made = quantize(model, network, bits, calibration, x=x[:64], rounding="nearest")
    program = lower(made.onnx, "net", "float", "dsp").reference
    exact = evaluate(model.onnx, x[64:], optimized=False)
    found = values(program, execute(program, input_codes(program, x[64:]))).reshape(exact.shape)
    return float(10 * np.log10(np.square(exact - exact.mean()).sum() / np.square(found - exact).sum()))


def main() -> None:
    """Print a row of the table in docs/audio.md for each kind of features."""
    x = sounds(96)
    print("| features | 8 bits | 16 bits |\n|---|---|---|")
    with TemporaryDirectory() as folder:
        for spectrum in SPECTRA:
            for end in ENDS:
                path, module = Path(folder) / "net.onnx", Features(spectrum, end).eval()
                torch.onnx.export(
                    module, (torch.zeros(1, SAMPLES),), path, dynamo=True, opset_version=20, verbose=False
                )
                found = (decibels(path, bits, x) for bits in (8, 16))
                print(f"| {', '.join(filter(None, (spectrum, end)))} | {' | '.join(f'{v:.1f} dB' for v in found)} |")


if __name__ == "__main__":
    main()

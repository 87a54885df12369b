"""Measure the loss tables of tapc-bench 2; goes on where it was killed.

    python examples/make_tapc_bench2.py --data DIR --jobs 2
    python examples/make_tapc_bench2.py resnet8 dscnn --data DIR
    python examples/make_tapc_bench2.py --data DIR --identities    # seconds: only tapc/bench/data/networks.toml

DIR holds cifar10-original-subset.npz, kws01-mfcc-dev.npz, imagenet-1k-sample-dev.zip, MLPerf Tiny's
mlperf-tiny/*.tflite and, unless --weights says where else, mobilenet_v2-b0353104.pth. Tables go to
tapc/bench/data/losses/NAME.json.gz, each when it is complete, and partial results to build/tapc-bench2/NAME.jsonl.
"""

import argparse
import io
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tapc.base.errors import TapcError
from tapc.base.files import write_whole
from tapc.flow.losses import save_losses
from tapc.flow.losses.generate import generate
from tapc.flow.losses.identities import save_identities
from tapc.flow.losses.measure import Source
from tapc.flow.losses.table import FOLDER, SUFFIX
from tapc.frontend import load
from tapc.frontend.identity import network_digest

CIFAR = "cifar10-original-subset.npz"


@dataclass(frozen=True)
class Network:
    """A network of the benchmark.

    Attributes
    ----------
    model : str
        Zoo name or file in DIR.
    data : str
        File in DIR; empty where samples are synthesized.
    calibration, rounding, test : int
        See `Source`.
    weights : str
        File in DIR.
    answers : bool
        Nothing says the samples' classes: the float network's answers stand for them.
    side : int
        Photographs are made so large, and their values 0 to 1; 0 leaves them.
    """

    model: str
    data: str
    calibration: int = 256
    rounding: int = 128
    test: int = 508
    weights: str = ""
    answers: bool = False
    side: int = 0


NETWORKS = {
    "resnet8": Network("resnet8", CIFAR),
    "dscnn": Network("mlperf-tiny/kws_ref_model_float32.tflite", "kws01-mfcc-dev.npz", 100, 100, 400),
    "mobilenetv1-0.25": Network("mobilenetv1-0.25", CIFAR),
    "autoencoder": Network("mlperf-tiny/ad01_fp32.tflite", ""),
    "vit-micro": Network("vit-micro", CIFAR),
    "vww": Network("mlperf-tiny/vww_96_float.tflite", "imagenet-1k-sample-dev.zip", test=244, answers=True, side=96),
    "resnet18": Network("resnet18", CIFAR, rounding=64, test=254),
    "mobilenetv2": Network("mobilenetv2", "imagenet-1k-sample-dev.zip", 64, 32, 128, "mobilenet_v2-b0353104.pth"),
}


def resized(path: Path, side: int, folder: Path) -> Path:
    """Return a file of the photographs of `path`, (N, 3, side, side) of 0 to 1, which is made where it is missing."""
    made = folder / f"{path.stem}-{side}.npz"
    if not made.exists():
        with zipfile.ZipFile(path) as archive:
            names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
            pictures = [Image.open(io.BytesIO(archive.read(name))).convert("RGB") for name in names]
        pixels = np.stack([np.asarray(p.resize((side, side), Image.Resampling.BOX)) for p in pictures])
        content = io.BytesIO()
        np.savez_compressed(content, x=pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(made, content.getvalue())
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"of {', '.join(NETWORKS)}; all by default")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--weights", type=Path, metavar="DIR", help="folder of official weights, DIR by default")
    parser.add_argument("--count", type=int, default=260, help="drawn configurations; default %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--partial", type=Path, default=Path("build/tapc-bench2"), metavar="DIR")
    parser.add_argument("--identities", action="store_true", help="write the networks' digests, measure nothing")
    parser.add_argument("--output", type=Path, default=FOLDER, metavar="DIR")
    options = parser.parse_args()
    names = options.networks or list(NETWORKS)
    if unknown := [name for name in names if name not in NETWORKS]:
        parser.error(f"no network {unknown[0]!r}; there are: {', '.join(NETWORKS)}")

    def weights_of(network: Network) -> Path | None:
        return (options.weights or options.data) / network.weights if network.weights else None

    def model_of(network: Network) -> str:
        return str(options.data / network.model) if "/" in network.model else network.model

    try:
        if options.identities:
            found = {
                name: network_digest(load(model_of(own), weights=weights_of(own), keep=False).onnx)
                for name, own in NETWORKS.items()
            }
            save_identities(found)
            return
        for name in names:
            network = NETWORKS[name]
            weights, model = weights_of(network), model_of(network)
            data = options.data / network.data if network.data else None
            if data and network.side:
                data = resized(data, network.side, options.partial)
            source = Source(
                name,
                model,
                data,
                network.calibration,
                network.rounding,
                network.test,
                weights,
                options.seed,
                network.answers,
            )
            command = (
                f"python examples/make_tapc_bench2.py {name} --data DIR --count {options.count} --seed {options.seed}"
            )
            table = generate(
                source,
                count=options.count,
                folder=options.partial,
                command=command,
                jobs=options.jobs,
                advance=lambda done, total, name=name: print(f"{name}: {done} of {total}", file=sys.stderr, flush=True),
            )
            save_losses(table, options.output / f"{name}{SUFFIX}")
    except TapcError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

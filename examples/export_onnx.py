"""Export a network of the zoo to ONNX, with its bundled weights or those of a file.

    python examples/export_onnx.py efficientnet_lite0 --weights efficientnet-lite0-57934424.pth --output lite0.onnx

The ONNX has the network's own input units: pixels * pixel_scale, less mean, over std, as `tapc models --json` shows.
"""

import argparse
from pathlib import Path

import onnx

from tapc.frontend.torch_source import read_zoo
from tapc.zoo.registry import get


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", help="a name of `tapc models`")
    parser.add_argument("--weights", type=Path, default=None, help="state dict or safetensors file")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    imported = read_zoo(get(options.network), options.weights)
    onnx.save(imported.graph, options.output)
    units = f"--pixel-scale {imported.pixel_scale} --mean {','.join(map(str, imported.mean))}"
    print(f"{options.output}: {imported.provenance}; {units} --std {','.join(map(str, imported.std))}")


if __name__ == "__main__":
    main()

"""Measure the accuracy of integer networks over seeds and write docs/results.md.

    python examples/results.py --data DIR [--weights DIR] [--only NAME]

DIR holds cifar10-original-subset.npz, kws01-mfcc-dev.npz, imagenet-1k-sample-dev.zip and mlperf-tiny/*.tflite; the
weights' folder mobilenet_v2-b0353104.pth and efficientnet-lite0-57934424.pth. What is missing is left out, and the page
says so. Each network's figures are kept in build/results/NAME.json until that file is deleted.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PAGE = Path("docs/results.md")
KEPT = Path("build/results")
HEAD = """# Results

MLPerf Tiny on five cores: [mlperf_tiny](mlperf_tiny.md).

Written by `python examples/results.py`. Top-1 in percent in onnxruntime, three seeds: mean ± standard deviation. The
firmware equals the reference executor bit for bit, and that onnxruntime within a step per layer. Each seed draws its
own calibration samples; of a single data set, all other samples are tested. `w4a8`: 4-bit weights and 8-bit activations
everywhere; `m3a8`: an average of 3 weight bits, distributed by the allocation with the `error` proxy; `m4r4`: that of 4
weight bits, and activations of 4 or 8 bits with no more peak RAM than `w4a4` takes.
"""


@dataclass(frozen=True)
class Row:
    """A network, its data and what `tapc bench accuracy` is told."""

    title: str
    model: str
    data: str
    settings: tuple[str, ...]
    roundings: tuple[str, ...] = ("nearest", "gptq")
    calibration: int = 1024
    weights: str | None = None


SMALL = ("w8a8", "w4a8", "m4a8", "m3a8", "w2a8")
ROWS = {
    "resnet8": Row("ResNet-8, zoo", "resnet8", "cifar10-original-subset.npz", SMALL),
    "resnet18": Row("ResNet-18, zoo", "resnet18", "cifar10-original-subset.npz", ("w8a8", "w4a8"), calibration=256),
    "mobilenetv1-0.25": Row(
        "MobileNetV1-0.25, zoo", "mobilenetv1-0.25", "cifar10-original-subset.npz", ("w8a8", "w4a8", "m4a8")
    ),
    "vit-micro": Row("vit-micro, zoo", "vit-micro", "cifar10-original-subset.npz", ("w8a8", "w4a8")),
    "mlperf-resnet8": Row(
        "ResNet-8, MLPerf Tiny", "mlperf-tiny/pretrainedResnet.tflite", "cifar10-original-subset.npz", SMALL
    ),
    "mlperf-dscnn": Row("DS-CNN, MLPerf Tiny", "mlperf-tiny/kws_ref_model_float32.tflite", "kws01-mfcc-dev.npz", SMALL),
    "mobilenetv2": Row(
        "MobileNetV2, ImageNet", "mobilenetv2", "imagenet-1k-sample-dev.zip", ("w8a8", "w4a8"), ("gptq",), 128,
        "mobilenet_v2-b0353104.pth",
    ),
    "mobilenetv2-mixed": Row(
        "MobileNetV2, ImageNet, mixed", "mobilenetv2", "imagenet-1k-sample-dev.zip", ("m4a8", "m4.9a8"), ("gptq",), 128,
        "mobilenet_v2-b0353104.pth",
    ),
    "mlperf-resnet8-a4": Row(
        "ResNet-8, MLPerf Tiny, 4-bit activations", "mlperf-tiny/pretrainedResnet.tflite",
        "cifar10-original-subset.npz", ("w4a4", "m4r4"), ("gptq",),
    ),
    "mlperf-dscnn-a4": Row(
        "DS-CNN, MLPerf Tiny, 4-bit activations", "mlperf-tiny/kws_ref_model_float32.tflite", "kws01-mfcc-dev.npz",
        ("w4a4", "m4r4"), ("gptq",),
    ),
    "mobilenetv2-a4": Row(
        "MobileNetV2, ImageNet, 4-bit activations", "mobilenetv2", "imagenet-1k-sample-dev.zip", ("w4a4", "m4r4"),
        ("gptq",), 128, "mobilenet_v2-b0353104.pth",
    ),
    "efficientnet_lite0": Row(
        "EfficientNet-Lite0, ImageNet", "efficientnet_lite0", "imagenet-1k-sample-dev.zip", ("w8a8",), ("gptq",), 128,
        "efficientnet-lite0-57934424.pth",
    ),
    "efficientnet_lite0-w4": Row(
        "EfficientNet-Lite0, ImageNet, 4 bits", "efficientnet_lite0", "imagenet-1k-sample-dev.zip", ("w4a8",),
        ("gptq",), 128, "efficientnet-lite0-57934424.pth",
    ),
    "efficientnet_lite0-mixed": Row(
        "EfficientNet-Lite0, ImageNet, mixed", "efficientnet_lite0", "imagenet-1k-sample-dev.zip", ("m4a8",),
        ("gptq",), 128, "efficientnet-lite0-57934424.pth",
    ),
}  # fmt: skip


def measured(name: str, row: Row, data: Path, weights: Path | None) -> dict[str, object] | str:
    """Return what `tapc bench accuracy --json` prints, from its file where there is one, or why not."""
    kept = KEPT / f"{name}.json"
    if not kept.exists():
        model = data / row.model if row.model.endswith(".tflite") else Path(row.model)
        files = [data / row.data, *([model] if row.model.endswith(".tflite") else [])]
        if row.weights is not None:
            if weights is None:
                return f"Not measured: {row.weights} was not given (--weights)."
            files.append(weights / row.weights)
        for file in files:
            if not file.exists():
                return f"Not measured: {file.name} was missing."
        command = [
            sys.executable,
            "-m",
            "tapc",
            "bench",
            "accuracy",
            str(model),
            "--data",
            str(data / row.data),
            "--json",
        ]
        command += ["--calibration", str(row.calibration)]
        command += [word for setting in row.settings for word in ("--set", setting)]
        command += [word for rounding in row.roundings for word in ("--rounding", rounding)]
        if row.weights is not None and weights is not None:
            command += ["--weights", str(weights / row.weights)]
        text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        KEPT.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(".part")
        partial.write_text(text, encoding="utf-8")
        partial.replace(kept)
    result: dict[str, object] = json.loads(kept.read_text(encoding="utf-8"))
    return result


def table(row: Row, found: dict[str, object] | str) -> list[str]:
    """Return a network's section."""
    lines = ["", f"## {row.title}", ""]
    if isinstance(found, str):
        return [*lines, found]
    summary = found["summary"]
    assert isinstance(summary, list)
    first = summary[0]
    lines += [
        f"Float: {first['float_top1']:.2f} %; {first['samples']} test samples of `{row.data}`; calibrated on at most "
        f"{row.calibration} others; {first['seeds']} seeds.",
        "",
        "| bits | rounding | top-1 | drop, points | same class as float | weights, bytes |",
        "|---|---|---|---|---|---|",
    ]
    for item in summary:
        lines.append(
            f"| {item['setting']} | {item['rounding']} | {item['top1']:.2f} ± {item['top1_sd']:.2f} | "
            f"{item['drop']:.2f} ± {item['drop_sd']:.2f} | {item['agreement']:.1f} % | {item['weight_bytes']:,} |"
        )
    return lines


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=None)
    parser.add_argument("--only", choices=[*ROWS], action="append", default=None, help="measure these; show all")
    options = parser.parse_args()
    lines = [HEAD.rstrip()]
    for name, row in ROWS.items():
        left_out = options.only is not None and name not in options.only and not (KEPT / f"{name}.json").exists()
        found = "Not measured." if left_out else measured(name, row, options.data, options.weights)
        lines += table(row, found)
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()

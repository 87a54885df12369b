"""Architectures with fixed random weights, and their files by both of torch's exporters."""

import contextlib
import io
import logging
import warnings
from pathlib import Path

import torch
from torch import nn

from architectures import ARCHITECTURES

OPSET = 20


def made(name: str) -> tuple[nn.Module, tuple[tuple[int, ...], ...]]:
    """Return an architecture in inference mode, its batch normalizations as after training."""
    torch.manual_seed(0)
    module, shapes = ARCHITECTURES[name]()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.5, 1.5)
    return module.eval(), shapes


def exported(name: str, folder: Path, *, dynamo: bool) -> Path:
    """Write an architecture's ONNX file; return its path."""
    module, shapes = made(name)
    path = folder / f"{name.replace(',', '').replace(' ', '_')}{'_dynamo' if dynamo else ''}.onnx"
    inputs = tuple(torch.rand(*shape) for shape in shapes)
    logging.disable(logging.WARNING)
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        torch.onnx.export(module, inputs, str(path), dynamo=dynamo, opset_version=OPSET, verbose=False)
    logging.disable(logging.NOTSET)
    return path

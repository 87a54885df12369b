"""Quantization-aware training that starts from a post-training result."""

from tapc.finetune.train import Training, finetune

__all__ = ["Training", "finetune"]

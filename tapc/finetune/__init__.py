"""Quantization-aware training that starts from a post-training result."""

from tapc.finetune.rates import Trained, finetune_at_some_rate
from tapc.finetune.train import Training, finetune

__all__ = ["Trained", "Training", "finetune", "finetune_at_some_rate"]

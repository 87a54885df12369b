"""Networks with trained weights that come with tapc."""

from tapc.zoo.registry import ZooEntry, get, load_weights, models

__all__ = ["ZooEntry", "get", "load_weights", "models"]

"""Networks that tapc knows, with weights that it carries or fetches."""

from tapc.zoo.registry import Variant, ZooEntry, get, load_weights, models, names

__all__ = ["Variant", "ZooEntry", "get", "load_weights", "models", "names"]

"""Proxies without a language model: a grammar of expression trees. Not TAP."""

from tapc.search.offline.generator import LABEL, OfflineGenerator, Written

__all__ = ["LABEL", "OfflineGenerator", "Written"]

"""The search for proxies: TAP (arXiv 2512.07419) with the device in the fitness."""

from tapc.search.generators import GeneratorOptions
from tapc.search.llm import LLMOptions
from tapc.search.options import SearchOptions
from tapc.search.run import Outcome, Request, search, stored_request

__all__ = ["GeneratorOptions", "LLMOptions", "Outcome", "Request", "SearchOptions", "search", "stored_request"]

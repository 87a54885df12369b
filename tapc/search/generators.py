"""Who writes the proxies: a language model, a person through files, or the offline grammar."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from tapc.proxy.columns import columns
from tapc.search.candidate import Candidate, Draft, Generator
from tapc.search.controllers import Operator
from tapc.search.llm import LLMOptions, Prompts, language_model
from tapc.search.log import Event
from tapc.search.networks import SearchNetwork
from tapc.search.offline import LABEL, OfflineGenerator
from tapc.search.options import SearchOptions

OFFLINE = "offline"


class GeneratorOptions(BaseModel):
    """Who writes proxies, and how it is asked.

    Attributes
    ----------
    llm : str
        ``offline``, ``files:DIR``, or a litellm model string.
    prompts : str or None
        Folder whose files take the place of the shipped prompts of the same names.
    options : LLMOptions
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    llm: str
    prompts: str | None = None
    options: LLMOptions = LLMOptions()


def make_generator(
    request: GeneratorOptions, options: SearchOptions, networks: Sequence[SearchNetwork], events: Sequence[Event]
) -> Generator:
    """Return the generator that a request names; `events` tell what earlier sessions of the run spent."""
    if request.llm == OFFLINE:
        return Offline(options)
    prompts = Prompts.load(None if request.prompts is None else Path(request.prompts))
    return Asked(language_model(request.llm, request.options), request.llm, prompts, options, networks)


class Offline:
    """The grammar of expression trees.

    Parameters
    ----------
    options : SearchOptions
    """

    label = LABEL
    prompts: Mapping[str, str] = {}

    def __init__(self, options: SearchOptions) -> None:
        self._grammar = OfflineGenerator(columns(options.inputs))

    def generate(self, key: str, operator: Operator, parents: Sequence[Candidate], library: Sequence[Candidate],
                 seed: Sequence[int]) -> Draft:  # fmt: skip
        """Grow, change or cross expression trees."""
        rng = np.random.default_rng([*seed, 1])
        programs = [parent.program for parent in parents if parent.program is not None]
        written = self._grammar.draft(operator, programs, rng)
        return Draft(written.name, written.reasoning, written.code, generator=LABEL)


class Asked:
    """STUB."""

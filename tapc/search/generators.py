"""Who writes the proxies: a language model, a person through files, or the offline grammar."""

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from tapc.proxy.columns import columns
from tapc.proxy.contract import ContractError, allocated, scored
from tapc.proxy.sandbox import Sandbox
from tapc.search.candidate import Background, Candidate, Draft, Generator
from tapc.search.controllers import Operator
from tapc.search.feedback import describe, feedback, known, rivals, tried
from tapc.search.llm import LanguageModel, LLMOptions, Prompts, Request, ask, language_model, total
from tapc.search.log import Event
from tapc.search.networks import SearchNetwork
from tapc.search.offline import LABEL, OfflineGenerator
from tapc.search.options import SearchOptions
from tapc.search.pooled import POOL, Pooled

OFFLINE = "offline"


class GeneratorOptions(BaseModel):
    """Who writes proxies, and how it is asked.

    Attributes
    ----------
    llm : str
        ``offline``, ``files:DIR``, ``pool:RECORD,...``, or a litellm model string.
    prompts : str or None
        Folder whose files take the place of the shipped prompts of the same names.
    options : LLMOptions
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    llm: str
    prompts: str | None = None
    options: LLMOptions = LLMOptions()


def make_generator(
    request: GeneratorOptions,
    options: SearchOptions,
    networks: Sequence[SearchNetwork],
    events: Sequence[Event],
    tell: Callable[[str], None] = lambda text: None,
) -> Generator:
    """Return the generator that a request names; `events` tell what earlier sessions of the run spent."""
    if request.llm == OFFLINE:
        return Offline(options)
    if request.llm.startswith(POOL):
        paths = [Path(path) for path in request.llm.removeprefix(POOL).split(",")]
        return Pooled(paths, options.population, options.seed)
    spent = sum(event.data["usage"].get("cost_usd") or 0.0 for event in events if event.kind == "candidate")
    prompts = Prompts.load(None if request.prompts is None else Path(request.prompts))
    return Asked(
        language_model(request.llm, request.options, spent=spent, tell=tell),
        request.llm,
        prompts,
        options,
        networks,
        request.options.parallel,
    )


class Offline:
    """The grammar of expression trees.

    Parameters
    ----------
    options : SearchOptions
    """

    label = LABEL
    prompts: Mapping[str, str] = {}
    parallel = 1

    def __init__(self, options: SearchOptions) -> None:
        self._grammar = OfflineGenerator(columns(options.inputs))

    def generate(self, key: str, operator: Operator, parents: Sequence[Candidate], background: Background,
                 seed: Sequence[int]) -> Draft:  # fmt: skip
        """Grow, change or cross expression trees."""
        rng = np.random.default_rng([*seed, 1])
        programs = [parent.program for parent in parents if parent.program is not None]
        written = self._grammar.draft(operator, programs, rng)
        return Draft(written.name, written.reasoning, written.code, generator=LABEL)


class Asked:
    """A language model, or whoever answers in its place.

    Parameters
    ----------
    model : LanguageModel
    label : str
        Its name.
    prompts : Prompts
    options : SearchOptions
    networks : sequence of SearchNetwork
    parallel : int
        Questions at once.
    """

    def __init__(
        self,
        model: LanguageModel,
        label: str,
        prompts: Prompts,
        options: SearchOptions,
        networks: Sequence[SearchNetwork],
        parallel: int = 1,
    ) -> None:
        self.label = label
        self.parallel = parallel
        self._model = model
        self._prompts = prompts
        self._options = options
        self._networks = networks

    @property
    def prompts(self) -> Mapping[str, str]:
        """Prompt -> version and digest."""
        return self._prompts.provenance

    def generate(self, key: str, operator: Operator, parents: Sequence[Candidate], background: Background,
                 seed: Sequence[int]) -> Draft:  # fmt: skip
        """Ask for a proxy; a contract that it breaks is quoted back once."""
        library = [member for member in background.library if member not in parents]
        context = {
            "mode": self._options.inputs,
            "columns": columns(self._options.inputs),
            "networks": [describe(network, self._options) for network in self._networks],
            "options": self._options,
            "allocates": self._options.allocator == "proxy",
            "parents": [feedback(parent, self._networks) for parent in parents],
            "library": [feedback(member, self._networks) for member in library],
            "known": known(background),
            "tried": tried(background),
            "rivals": rivals(background.baselines),
            "theme": self._prompts.theme(seed),
        }
        asked = ask(self._model, Request(key, self._prompts.render(operator, context), operator), self._problem)
        usage = total(asked.replies)
        generator = asked.replies[-1].model if asked.replies else self.label
        if asked.draft is None:
            return Draft(problem=asked.problem, generator=generator, usage=usage)
        return Draft(asked.draft.name, asked.draft.reasoning, asked.draft.code, asked.problem, generator, usage)

    def _problem(self, code: str) -> str:
        tables, inputs = [network.table for network in self._networks], self._options.inputs
        with Sandbox() as sandbox:
            try:
                scores = scored(sandbox, code, tables, inputs, twice=True)
                if self._options.allocator == "proxy":
                    for target in self._options.targets:
                        allocated(sandbox, code, scores, tables, [target] * len(tables), inputs, twice=True)
            except ContractError as error:
                return str(error) + self._hint(str(error))
        return ""

    def _hint(self, problem: str) -> str:
        """Name the columns that a KeyError may have meant."""
        if (key := re.search(r"KeyError: ['\"](\w+)", problem)) is None:
            return ""
        names = [column.name for column in columns(self._options.inputs)]
        close = get_close_matches(key.group(1), names, 5, 0.4)
        return f"; no column has that name; like it: {', '.join(close)}" if close else "; no column has that name"

"""Answers of earlier searches, drawn by operator: what a choice among operators is worth, without asking anybody."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tapc.base.errors import DataError
from tapc.search.candidate import Background, Candidate, Draft
from tapc.search.controllers import OPERATORS, Operator
from tapc.search.llm import ParseError, parse
from tapc.search.llm.record import recorded_answers

POOL = "pool:"


class Pooled:
    """Draws recorded answers.

    An answer knows nothing of the parents that it stands for, so that only the operators' quality as a whole counts.
    Each operator's answers have an order of their own by the seed; a search of more candidates than there are answers
    meets some of them twice, which then are no news.

    Parameters
    ----------
    paths : sequence of Path
        Records, compressed or not.
    population : int
        Of the search.
    seed : int

    Raises
    ------
    DataError
        A record is missing or damaged, or they hold no answer of some operator.
    """

    prompts: Mapping[str, str] = {}
    parallel = 1

    def __init__(self, paths: Sequence[Path], population: int, seed: int) -> None:
        self.label = f"{POOL}{','.join(map(str, paths))}"
        found: dict[str, list[tuple[str, str]]] = {operator: [] for operator in OPERATORS}
        for path in paths:
            for answer in recorded_answers(path):
                if answer.operator in found:
                    found[answer.operator].append((answer.reply.text, answer.reply.model))
        if missing := [operator for operator, own in found.items() if not own]:
            raise DataError(f"{self.label}: the records hold no answer to {missing[0]}, or are of an earlier tapc")
        rng = np.random.default_rng([seed, 2])
        self._answers = {operator: [own[i] for i in rng.permutation(len(own))] for operator, own in found.items()}
        self._population = population

    def generate(self, key: str, operator: Operator, parents: Sequence[Candidate], background: Background,
                 seed: Sequence[int]) -> Draft:  # fmt: skip
        """Return the answer of an operator to a question's place in the search, the same after a kill."""
        _, generation, slot = seed
        own = self._answers[operator]
        text, model = own[(generation * self._population + slot) % len(own)]
        try:
            draft = parse(text)
        except ParseError as error:
            return Draft(problem=str(error), generator=model)
        return Draft(draft.name, draft.reasoning, draft.code, generator=model)

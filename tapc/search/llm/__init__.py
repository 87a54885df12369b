"""Language models that write proxies: asked through litellm, through files, or replayed from a record."""

from collections.abc import Callable
from pathlib import Path

from tapc.base.cache import Store, cache_folder
from tapc.base.errors import UsageError
from tapc.search.llm.client import Client, NoAnswerError
from tapc.search.llm.parse import Draft, Drafted, ParseError, ask, parse
from tapc.search.llm.prompts import Prompts
from tapc.search.llm.record import Cached, Files, Recorder, Replay
from tapc.search.llm.types import LanguageModel, LLMError, LLMOptions, Message, Reply, Request, total

__all__ = [
    "Draft",
    "Drafted",
    "LLMError",
    "LLMOptions",
    "LanguageModel",
    "Message",
    "NoAnswerError",
    "ParseError",
    "Prompts",
    "Reply",
    "Request",
    "ask",
    "language_model",
    "parse",
    "total",
]

FILES = "files:"


def language_model(
    spec: str, options: LLMOptions, *, spent: float = 0.0, tell: Callable[[str], None] = lambda text: None
) -> LanguageModel:
    """Return who answers.

    Parameters
    ----------
    spec : str
        ``files:DIR``, or a model of litellm.
    options : LLMOptions
    spent : float
        Dollars that earlier sessions paid.
    tell : callable
        Takes messages for the user.

    Raises
    ------
    UsageError
        Options that contradict each other, a missing package or an unknown price.
    """
    replay, record = options.path("replay"), options.path("record")
    if replay is not None and record is not None:
        raise UsageError("--record writes answers and --replay reads them; give one of the two")
    if replay is not None:
        return Replay(replay)
    model: LanguageModel
    if spec.startswith(FILES):
        model = Files(Path(spec.removeprefix(FILES)), timeout=options.files_timeout, tell=tell)
    else:
        model = Client(spec, options, spent=spent, tell=tell)
        if options.cache:
            settings = [spec, options.fallback, options.api_base, options.temperature, options.max_tokens]
            model = Cached(model, Store(cache_folder() / "answers"), settings)
    return model if record is None else Recorder(model, record)

"""What is asked of a language model, what it answers, and what that cost."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from tapc.base.cache import digest
from tapc.base.errors import TapcError


class LLMError(TapcError):
    """A language model cannot be asked, or does not answer: wrong key, unknown model, no network, spent budget."""

    exit_code = 6


@dataclass(frozen=True)
class Message:
    """A message of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Request:
    """A question.

    Attributes
    ----------
    key : str
        Unique in a search, e.g. "g2s3" or "g2s3/repair".
    messages : tuple of Message
    operator : str
        What asks; no part of the question.
    """

    key: str
    messages: tuple[Message, ...]
    operator: str = ""

    @property
    def digest(self) -> str:
        """Identify the question."""
        return digest(self.key, [asdict(message) for message in self.messages])


@dataclass(frozen=True)
class Reply:
    """An answer.

    Attributes
    ----------
    text : str
    model : str
        Who answered.
    prompt_tokens, completion_tokens : int
    cost : float or None
        US dollars; None where the price is unknown.
    """

    text: str
    model: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


class LanguageModel(Protocol):
    """Answers questions."""

    def complete(self, request: Request) -> Reply:
        """Return the answer; LLMError where there will be none."""


class LLMOptions(BaseModel):
    """How language models are asked.

    Attributes
    ----------
    api_base : str or None
        Address of a local server that speaks the provider's protocol.
    temperature : float
    max_tokens : int
        Of an answer.
    timeout : float
        Seconds for an answer.
    parallel : int
        Questions of one generation that are asked at once.
    retries : int
        After the first try, with exponential back-off.
    fallback : tuple of str
        Models that are asked in turn where the first does not answer.
    max_failures : int
        Questions in a row without an answer from anyone, after which the search stops.
    max_cost : float
        US dollars that the whole search may cost.
    allow_unknown_price : bool
        Ask models whose price is unknown; they count as free.
    record, replay : str or None
        File to write questions and answers to, and to answer from without any request.
    cache : bool
        Take answers that an earlier search had to the same question, with the same settings.
    files_timeout : float or None
        Seconds to wait for a person's answer; None waits for ever.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    api_base: str | None = None
    temperature: float = Field(default=0.8, ge=0, le=2)
    max_tokens: int = Field(default=4096, ge=1)
    timeout: float = Field(default=120.0, gt=0)
    parallel: int = Field(default=4, ge=1)
    retries: int = Field(default=4, ge=0)
    fallback: tuple[str, ...] = ()
    max_failures: int = Field(default=3, ge=1)
    max_cost: float = Field(default=5.0, ge=0)
    allow_unknown_price: bool = False
    record: str | None = None
    replay: str | None = None
    cache: bool = True
    files_timeout: float | None = Field(default=None, gt=0)

    def path(self, name: Literal["record", "replay"]) -> Path | None:
        """Return a file option as a path."""
        value = getattr(self, name)
        return None if value is None else Path(value)


def total(replies: Sequence[Reply]) -> dict[str, Any]:
    """Return requests, tokens and dollars of some answers; the cost is None where any price was unknown."""
    known = [reply.cost for reply in replies if reply.cost is not None]
    return {
        "requests": len(replies),
        "prompt_tokens": sum(reply.prompt_tokens for reply in replies),
        "completion_tokens": sum(reply.completion_tokens for reply in replies),
        "cost_usd": sum(known) if len(known) == len(replies) else None,
    }

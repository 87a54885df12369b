"""Asks providers through litellm: retries with back-off, fallbacks, a hard cap on what it may cost."""

import os
import random
import re
import threading
import time
from collections.abc import Callable
from typing import Any

from tapc.base.errors import UsageError
from tapc.search.llm.types import LLMError, LLMOptions, Reply, Request

FIRST_WAIT = 1.0  # seconds; doubled with every retry
LONGEST_WAIT = 60.0
_CHARACTERS_PER_TOKEN = 2  # fewer than any tokenizer's average for English and code, so that estimates are high
_PERMANENT = (400, 401, 403, 404, 422)


def import_litellm() -> Any:
    """Import litellm without its banners, telemetry and download of prices.

    Raises
    ------
    UsageError
        It is not installed.
    """
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    try:
        import litellm
    except ImportError as error:
        raise UsageError("language models are asked through litellm: pip install 'tapc[search]'") from error
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    litellm.drop_params = True
    return litellm


class Client:
    """Models that answer in turn.

    Parameters
    ----------
    model : str
        litellm's name, e.g. ``openai/gpt-5`` or ``anthropic/claude-...``.
    options : LLMOptions
    spent : float
        Dollars that earlier sessions of the search paid.
    sleep : callable
        Waits for some seconds.
    tell : callable
        Takes messages for the user.

    Raises
    ------
    UsageError
        litellm is missing, or a model's price is unknown and that was not allowed.
    """

    def __init__(
        self,
        model: str,
        options: LLMOptions,
        *,
        spent: float = 0.0,
        sleep: Callable[[float], None] = time.sleep,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._litellm = import_litellm()
        self._models = (model, *options.fallback)
        self._options = options
        self._spent = spent
        self._sleep = sleep
        self._tell = tell
        self._failures: list[str] = []
        self._state = threading.Condition()  # questions are asked by several threads
        self._asking, self._reserved = 0, 0.0
        self._random = random.Random(0)
        for name in self._models:
            if self._price(name, 1, 1) is None and not options.allow_unknown_price:
                raise UsageError(
                    f"the price of {name} is unknown, so --max-cost {options.max_cost:g} cannot be kept; "
                    "give --allow-unknown-price if it is free or you accept any cost"
                )

    @property
    def spent(self) -> float:
        """Dollars so far, earlier sessions included."""
        return self._spent

    def complete(self, request: Request) -> Reply:
        """Return the first answer that any of the models gives.

        Raises
        ------
        LLMError
            Nobody answered `max_failures` questions in a row, or the answer could cost more than is left.
        """
        reasons: list[str] = []
        for name in self._models:
            reply = self._ask(name, request, reasons)
            if reply is not None:
                with self._state:
                    self._failures = []
                return reply
        last = "; ".join(reasons)
        with self._state:
            self._failures.append(last)
            failures = len(self._failures)
        message = f"no answer to {request.key}: {last}"
        if failures >= self._options.max_failures:
            raise LLMError(
                f"{failures} questions in a row had no answer, so the search stops. The last: "
                f"{last}. When the provider works again: tapc search --resume RUN"
            )
        raise NoAnswerError(message)

    def _ask(self, name: str, request: Request, reasons: list[str]) -> Reply | None:
        """Ask one model until it answers, retries are used up, or it is clear that it never will."""
        for attempt in range(self._options.retries + 1):
            try:
                return self._within_budget(name, request)
            except _FailedError as failure:
                reasons.append(f"{name}: {failure}")
                if failure.permanent or attempt == self._options.retries:
                    return None
                wait = min(LONGEST_WAIT, FIRST_WAIT * 2**attempt) * self._random.uniform(0.75, 1.25)
                if failure.after is not None:
                    wait = max(wait, failure.after)
                self._tell(f"{name}: {failure}; trying again in {wait:.0f} s")
                self._sleep(wait)
        return None

    def _once(self, name: str, request: Request) -> Reply:
        options = self._options
        arguments: dict[str, Any] = {
            "model": name,
            "messages": [{"role": m.role, "content": m.content} for m in request.messages],
            "temperature": options.temperature,
            "max_tokens": options.max_tokens,
            "timeout": options.timeout,
            "num_retries": 0,
            "max_retries": 0,
        }
        if options.api_base is not None:
            # Local servers want no key; the client library insists on one.
            arguments |= {"api_base": options.api_base, "api_key": os.environ.get("OPENAI_API_KEY") or "none"}
        try:
            answer = self._litellm.completion(**arguments)
        except Exception as error:  # litellm's exceptions have no common base but this
            raise _failure(error) from error
        usage = getattr(answer, "usage", None)
        prompt = int(getattr(usage, "prompt_tokens", 0) or 0)
        completion = int(getattr(usage, "completion_tokens", 0) or 0)
        cost = self._price(name, prompt, completion)
        with self._state:
            self._spent += cost or 0.0
        if not answer.choices:
            raise _FailedError("it answered without any choice")
        choice = answer.choices[0]
        text = choice.message.content
        if not isinstance(text, str) or not text.strip():
            raise _FailedError("it answered nothing")
        if choice.finish_reason == "length":
            text += f"\n[cut off after {options.max_tokens} tokens]"
        return Reply(text, str(answer.model or name), prompt, completion, cost)

    def _price(self, name: str, prompt: int, completion: int) -> float | None:
        try:
            prices = self._litellm.cost_per_token(model=name, prompt_tokens=prompt, completion_tokens=completion)
        except Exception:  # not in litellm's table
            return None
        return float(sum(prices))

    def _within_budget(self, name: str, request: Request) -> Reply:
        """Ask once; refuse what could cost more than is left, judged by the longest possible answer.

        Answers under way count as the longest possible, too; where they leave too little, they are awaited first.
        """
        prompt = sum(len(m.content) for m in request.messages) // _CHARACTERS_PER_TOKEN + 100
        worst = self._price(name, prompt, self._options.max_tokens) or 0.0

        def fits() -> bool:
            return self._spent + self._reserved + worst <= self._options.max_cost

        with self._state:
            self._state.wait_for(lambda: self._asking == 0 or fits())
            if not fits():
                raise LLMError(
                    f"the search has spent ${self._spent:.4f}, and the next answer may cost ${worst:.4f}: that could "
                    f"pass --max-cost {self._options.max_cost:g}. Go on with a higher one: "
                    "tapc search --resume RUN --max-cost N"
                )
            self._asking += 1
            self._reserved += worst
        try:
            return self._once(name, request)
        finally:
            with self._state:
                self._asking -= 1
                self._reserved = self._reserved - worst if self._asking else 0.0
                self._state.notify_all()


class NoAnswerError(Exception):
    """No model answered this question; the search goes on without it."""


class _FailedError(Exception):
    def __init__(self, message: str, *, permanent: bool = False, after: float | None = None) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.after = after


def _failure(error: Exception) -> _FailedError:
    """Return what a litellm exception means: whether asking again makes sense, and when."""
    status = getattr(error, "status_code", None)
    text = " ".join(str(error).split())[:300]
    permanent = status in _PERMANENT
    advice = {
        401: "; set the provider's key, e.g. OPENAI_API_KEY",
        403: "; this key may not use the model",
        404: "; is the model's name right?",
    }
    return _FailedError(f"{text}{advice.get(status or 0, '')}", permanent=permanent, after=_retry_after(error))


def _retry_after(error: Exception) -> float | None:
    for holder in (error, getattr(error, "response", None)):
        for name in ("litellm_response_headers", "headers"):
            headers = getattr(holder, name, None)
            value = headers.get("retry-after") if headers is not None else None
            if value is not None and re.fullmatch(r"\d+(\.\d+)?", str(value)):
                return min(float(value), 10 * LONGEST_WAIT)
    return None

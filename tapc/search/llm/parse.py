"""From a model's answer to reasoning and code: tolerant of form, and clear about what is wrong."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tapc.search.llm.client import NoAnswerError
from tapc.search.llm.types import LanguageModel, Message, Reply, Request

_FENCE = re.compile(r"```[ \t]*([\w+-]*)[ \t]*\n(.*?)(?:\n```|\Z)", re.DOTALL)
_THINKING = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_MOST = 200_000
_REPAIR = "That answer cannot be used: {}\n\nAnswer again, in the same form, with this put right."


class ParseError(Exception):
    """An answer holds no proxy; the message is for the model."""


@dataclass(frozen=True)
class Draft:
    """What an answer proposes."""

    reasoning: str
    code: str
    name: str = ""


@dataclass(frozen=True)
class Drafted:
    """How asking ended.

    Attributes
    ----------
    draft : Draft or None
    replies : tuple of Reply
    problem : str
        What was wrong with the last answer; empty where a draft was found.
    """

    draft: Draft | None
    replies: tuple[Reply, ...]
    problem: str = ""


def parse(text: str) -> Draft:
    """Find a proxy in an answer.

    Understood are a JSON object with "reasoning" and "code" (bare, in a fence, or with prose around it; raw line
    breaks and trailing commas are forgiven), or one Python fence with prose around it.

    Raises
    ------
    ParseError
    """
    if len(text) > _MOST:
        raise ParseError(f"the answer has {len(text):,} characters; keep it below {_MOST:,}")
    text = _THINKING.sub("", text)
    problem = ""
    for candidate in _objects(text):
        values = _loads(candidate)
        if isinstance(values, dict) and "code" in values:
            return _draft(values)
        if isinstance(values, dict):
            problem = f'the JSON object has the keys {sorted(map(str, values))}; it needs "reasoning" and "code"'
    fences = [(language.lower(), body) for language, body in _FENCE.findall(text) if "def " in body]
    python = [body for language, body in fences if language in ("python", "py", "python3", "")]
    if python:
        prose = _FENCE.sub("", text).strip()
        return Draft(prose[:8000] or "no reasoning was given", _unfenced(max(python, key=len)))
    if problem:
        raise ParseError(problem)
    if "{" in text and '"code"' in text:
        raise ParseError("the JSON object is not complete or not valid; answer with one short, complete JSON object")
    raise ParseError('no JSON object with "reasoning" and "code", and no Python code, was found in the answer')


def _objects(text: str) -> list[str]:
    """Return texts that may be the JSON object, the likeliest first."""
    found = [body for language, body in _FENCE.findall(text) if language.lower() in ("json", "") and "{" in body]
    first, last = text.find("{"), text.rfind("}")
    if 0 <= first < last:
        found.insert(0, text[first : last + 1])
    return found


def _loads(text: str) -> Any:
    for attempt in (text, re.sub(r",(\s*[}\]])", r"\1", text)):
        try:
            return json.loads(attempt, strict=False)
        except (ValueError, RecursionError):
            continue
    return None


def _draft(values: dict[str, Any]) -> Draft:
    code, reasoning, name = values["code"], values.get("reasoning", ""), values.get("name", "")
    if isinstance(code, list) and all(isinstance(line, str) for line in code):
        code = "\n".join(code)
    if not isinstance(code, str) or not code.strip():
        raise ParseError('"code" must be a text with Python code')
    if not isinstance(reasoning, str):
        reasoning = json.dumps(reasoning)
    return Draft(reasoning.strip() or "no reasoning was given", _unfenced(code), str(name)[:80] if name else "")


def _unfenced(code: str) -> str:
    match = _FENCE.fullmatch(code.strip())
    return (match.group(2) if match else code).strip("\n") + "\n"


def ask(model: LanguageModel, request: Request, validate: Callable[[str], str]) -> Drafted:
    """Ask for a proxy; what is wrong with the answer is quoted back once.

    Parameters
    ----------
    model : LanguageModel
    request : Request
    validate : callable
        Takes code, returns what is wrong with it, or an empty text.

    Raises
    ------
    LLMError
        The search cannot go on.
    """
    replies: list[Reply] = []
    draft: Draft | None = None
    problem = ""
    for attempt in range(2):
        try:
            reply = model.complete(request)
        except NoAnswerError as error:
            return Drafted(None, tuple(replies), str(error))
        replies.append(reply)
        draft, problem = _judged(reply.text, validate)
        if not problem:
            return Drafted(draft, tuple(replies))
        if attempt == 0:
            request = replace(request, key=f"{request.key}/repair", messages=(
                *request.messages,
                Message("assistant", reply.text[:_MOST]),
                Message("user", _REPAIR.format(problem)),
            ))  # fmt: skip
    # Code that parses but fails is still a candidate: the search records how it fails.
    return Drafted(draft, tuple(replies), problem)


def _judged(text: str, validate: Callable[[str], str]) -> tuple[Draft | None, str]:
    try:
        draft = parse(text)
    except ParseError as error:
        return None, str(error)
    return draft, validate(draft.code)

"""Answers that are kept: recorded to a file, replayed from one, or awaited from a person."""

import gzip
import json
import os
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tapc.base.cache import Store, digest
from tapc.base.errors import DataError, OutputError
from tapc.search.llm.types import LanguageModel, LLMError, Reply, Request

_GZIP = b"\x1f\x8b"


class Recorder:
    """Writes every question and answer to a file, one JSON object a line, and answers from it what it holds already.

    Parameters
    ----------
    inner : LanguageModel
    path : Path

    Raises
    ------
    DataError
        The file holds something else.
    """

    def __init__(self, inner: LanguageModel, path: Path) -> None:
        self._inner = inner
        self._writing = threading.Lock()
        self._path = path
        if path.exists() and _compressed(path):
            raise DataError(f"record {path}: is compressed and can only be replayed; gunzip it to add to it")
        self._known, end = read_record(path) if path.exists() else ({}, 0)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab")
            self._file.truncate(end)
        except OSError as error:
            raise OutputError(f"cannot write the record {path}: {error.strerror}") from error

    def complete(self, request: Request) -> Reply:
        """Return the recorded answer, or ask and record it."""
        if request.digest in self._known:
            return self._known[request.digest]
        reply = self._inner.complete(request)
        line = {"digest": request.digest, "key": request.key, "operator": request.operator,
                "messages": [asdict(m) for m in request.messages], "reply": reply.to_dict()}  # fmt: skip
        with self._writing:
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
            self._known[request.digest] = reply
        return reply


class Cached:
    """Remembers answers for ever, so that none is paid for twice, whatever happens to the search that asked.

    Parameters
    ----------
    inner : LanguageModel
    store : Store
    identity : JSON value
        What else an answer depends on: models, temperature, length.
    """

    def __init__(self, inner: LanguageModel, store: Store, identity: Any) -> None:
        self._inner = inner
        self._store = store
        self._identity = identity

    def complete(self, request: Request) -> Reply:
        """Return the known answer, or ask and remember it."""
        key = digest(self._identity, request.digest)
        record = self._store.get(key)
        if isinstance(record, dict):
            return Reply(**record)
        reply = self._inner.complete(request)
        self._store.put(key, reply.to_dict())
        return reply


class Replay:
    """Answers from a record, without any request.

    Parameters
    ----------
    path : Path

    Raises
    ------
    DataError
        The file is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known, _ = read_record(path)
        self._keys = _keys(path)

    def complete(self, request: Request) -> Reply:
        """Return the recorded answer.

        Raises
        ------
        DataError
            The record has none: names what differs.
        """
        if request.digest in self._known:
            return self._known[request.digest]
        why = "with another text (other options, prompts or networks)" if request.key in self._keys else "not at all"
        raise DataError(
            f"the record {self._path} holds the question {request.key} {why}; replay with the options of the recorded "
            "search, or record a new one"
        )


def read_record(path: Path) -> tuple[dict[str, Reply], int]:
    """Read a record; returns answers by the digest of their question, and the bytes of whole lines.

    Raises
    ------
    DataError
    """
    raw = _read(path)
    known: dict[str, Reply] = {}
    end = 0
    while (stop := raw.find(b"\n", end)) >= 0:
        try:
            values = json.loads(raw[end:stop])
            known[values["digest"]] = Reply(**values["reply"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"record {path}: line {len(known) + 1} is damaged: {error}") from None
        end = stop + 1
    return known, end


@dataclass(frozen=True)
class Recorded:
    """A recorded answer, and the operator that it was asked by; empty where the record does not say."""

    operator: str
    reply: Reply


def recorded_answers(path: Path) -> list[Recorded]:
    """Return a record's answers in their order, without those to what was quoted back.

    Raises
    ------
    DataError
        The file is missing or damaged.
    """
    read_record(path)
    lines = [json.loads(line) for line in _read(path).split(b"\n")[:-1]]
    return [Recorded(line.get("operator", ""), Reply(**line["reply"])) for line in lines if "/" not in line["key"]]


def _keys(path: Path) -> set[str]:
    return {str(json.loads(line)["key"]) for line in _read(path).split(b"\n")[:-1]}


def _compressed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_GZIP)) == _GZIP


def _read(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes()) if _compressed(path) else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"record {path}: {getattr(error, 'strerror', None) or error}") from None


class Files:
    """A person, or anything else that reads and writes files: KEY.prompt.md is written, KEY.answer.md is awaited.

    Parameters
    ----------
    folder : Path
    timeout : float or None
        Seconds to wait for one answer.
    tell : callable
        Takes messages for the user.
    poll : float
        Seconds between looks.
    """

    def __init__(
        self, folder: Path, *, timeout: float | None = None, tell: Callable[[str], None] = lambda text: None,
        poll: float = 0.5,
    ) -> None:  # fmt: skip
        self._folder = folder
        self._timeout = timeout
        self._tell = tell
        self._poll = poll

    def complete(self, request: Request) -> Reply:
        """Write the question, wait for the answer's file, and return its text.

        Raises
        ------
        LLMError
            Nobody answered in time.
        OutputError
            The folder cannot be written.
        """
        stem = request.key.replace("/", "-")
        question, answer = self._folder / f"{stem}.prompt.md", self._folder / f"{stem}.answer.md"
        text = "\n\n".join(f"# {m.role}\n\n{m.content}" for m in request.messages) + "\n"
        known = question.read_text(encoding="utf-8") if question.is_file() else None
        if known != text:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                answer.unlink(missing_ok=True)  # it answers another question
                temporary = question.with_suffix(".tmp")
                temporary.write_text(text, encoding="utf-8")
                temporary.replace(question)
            except OSError as error:
                raise OutputError(f"cannot write {question}: {error.strerror}") from error
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        if not answer.is_file():
            self._tell(
                f"waiting for {answer} (the question is in {question.name}; write the answer elsewhere and rename)"
            )
        while not answer.is_file():
            if deadline is not None and time.monotonic() > deadline:
                raise LLMError(
                    f"no answer in {answer} after {self._timeout:g} s; write it, then tapc search --resume RUN"
                )
            time.sleep(self._poll)
        return Reply(answer.read_text(encoding="utf-8"), "files")

"""The append-only event log of a search: what is in it is never computed again, so a killed run goes on where it was.

One JSON object a line. A search records everything that is dear or random through `EventLog.record`, always in the
same order; opened again, the log answers from its lines until they end. Each line carries the SHA-256 of the one
before and of its own content, times left out, so equal runs have equal digests.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from tapc.base.errors import DataError, OutputError, UsageError

NAME = "events.jsonl"


@dataclass(frozen=True)
class Event:
    """A line of the log.

    Attributes
    ----------
    kind, key : str
        What it is about; the pair is unique in a run.
    data : JSON value
    digest : str
        Of this and all earlier lines.
    time : str
        When it was written (UTC); not part of the digest.
    """

    kind: str
    key: str
    data: Any
    digest: str
    time: str

    def line(self) -> bytes:
        """Return the line, with its end."""
        values = {"kind": self.kind, "key": self.key, "data": self.data, "digest": self.digest, "time": self.time}
        return json.dumps(values, sort_keys=True).encode() + b"\n"


def chained(previous: str, kind: str, key: str, data: Any) -> str:
    """Return the digest of an event that follows one with digest `previous`."""
    content = json.dumps([previous, kind, key, data], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def read_events(path: Path) -> tuple[list[Event], int]:
    """Read a log; returns its events and the bytes that they take.

    A last line that was cut off by a kill is left out.

    Raises
    ------
    DataError
        The log is missing or damaged before its last line.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: no log of a search: {error.strerror}") from None
    events: list[Event] = []
    end = 0
    while (stop := raw.find(b"\n", end)) >= 0:
        try:
            event = Event(**json.loads(raw[end:stop]))
        except (ValueError, TypeError) as error:
            if stop == len(raw) - 1:  # damaged, not only cut off
                break
            raise DataError(f"{path}: line {len(events) + 1} is damaged: {error}") from None
        previous = events[-1].digest if events else ""
        if event.digest != chained(previous, event.kind, event.key, event.data):
            raise DataError(f"{path}: line {len(events) + 1} was changed: its digest is wrong")
        events.append(event)
        end = stop + 1
    return events, end


class EventLog:
    """A log that is being written; exclusive to one process.

    Parameters
    ----------
    folder : Path
        Of the run; made when missing.
    resume : bool
        Whether a log is expected there.
    observe : callable, optional
        Told every event, those of an earlier run included.

    Raises
    ------
    UsageError
        There is a log already, or none, or another process writes it.
    DataError
        The log is damaged.
    OutputError
        The folder cannot be written.
    """

    def __init__(
        self, folder: Path, *, resume: bool = False, observe: Callable[[Event], None] = lambda event: None
    ) -> None:
        path = folder / NAME
        if resume and not path.is_file():
            raise UsageError(f"{folder} holds no {NAME}: nothing to resume; start a search with -o {folder}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = path.open("ab")
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}; choose another folder with -o") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise UsageError(f"{folder}: another process is writing this run") from None
        try:
            self._recorded, end = read_events(path)
            begun = [event.kind for event in self._recorded]
            if not resume and begun == ["start"] and path.stat().st_size == end:
                self._recorded, end = [], 0  # it failed before it began
                self._file.truncate(0)
            if self._recorded and not resume:
                raise UsageError(
                    f"{folder} holds a search already; go on with it (tapc search --resume {folder}) "
                    "or choose another folder with -o"
                )
            if path.stat().st_size and not resume:
                raise UsageError(f"{path} is not empty, and no log of a search; choose another folder with -o")
        except BaseException:
            self._file.close()
            raise
        self._file.truncate(end)
        self._observe = observe
        self._next = 0
        self._known = {(event.kind, event.key) for event in self._recorded}
        self.digest = ""

    @property
    def replaying(self) -> bool:
        """Whether events of an earlier run are still to come."""
        return self._next < len(self._recorded)

    @property
    def events(self) -> tuple[Event, ...]:
        """Everything recorded so far, by earlier sessions and this one."""
        return tuple(self._recorded)

    def knows(self, kind: str, key: str) -> bool:
        """Whether the log held this event when it was opened."""
        return (kind, key) in self._known

    def record(self, kind: str, key: str, make: Callable[[], Any]) -> Any:
        """Return an event's data: from the log where it has it, otherwise made now and written.

        Raises
        ------
        DataError
            The log goes on with another event: it was made by another version, or with other inputs.
        """
        if self.replaying:
            event = self._recorded[self._next]
            if (event.kind, event.key) != (kind, key):
                raise DataError(
                    f"the log goes on with {event.kind} {event.key!r}, this search with {kind} {key!r}: it was made "
                    "by another version of tapc or with other data; start a new run"
                )
        else:
            data = json.loads(json.dumps(make()))  # exactly what a resumed run would read
            digest = chained(self.digest, kind, key, data)
            event = Event(kind, key, data, digest, datetime.now(UTC).isoformat(timespec="milliseconds"))
            self._recorded.append(event)
            self._file.write(event.line())
            self._file.flush()
            os.fsync(self._file.fileno())
        self._next += 1
        self.digest = event.digest
        self._observe(event)
        return event.data

    def close(self) -> None:
        """Release the log."""
        self._file.close()

    def __enter__(self) -> "EventLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

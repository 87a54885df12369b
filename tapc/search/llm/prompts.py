"""The prompts: Markdown files with a version, filled in by Jinja2; anyone's own files may take their place."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from tapc.base.errors import DataError
from tapc.hardware.board import shipped
from tapc.search.llm.types import Message

NAMES = ("system", "initialization", "mutation", "crossover", "themes")
_FRONT = re.compile(r"\A---\nversion: (\S+)\n---\n")


@dataclass(frozen=True)
class Prompt:
    """A prompt file.

    Attributes
    ----------
    name, version, text : str
        Text without the front matter.
    digest : str
        Of the whole file.
    """

    name: str
    version: str
    text: str
    digest: str


@dataclass(frozen=True)
class Prompts:
    """The prompts of a search, and the themes of initializations."""

    files: Mapping[str, Prompt]

    @staticmethod
    def load(folder: Path | None = None) -> "Prompts":
        """Read the prompts; files in `folder` take the place of the shipped ones of the same names.

        Raises
        ------
        DataError
            The folder is missing or holds none of them, or a file has no version.
        """
        if folder is not None and not any((folder / f"{name}.md").is_file() for name in NAMES):
            raise DataError(f"--prompts {folder}: holds none of {', '.join(f'{name}.md' for name in NAMES)}")
        files = {}
        for name in NAMES:
            own = None if folder is None else folder / f"{name}.md"
            files[name] = _read(own if own is not None and own.is_file() else shipped("prompts") / f"{name}.md", name)
        return Prompts(files)

    @property
    def provenance(self) -> dict[str, str]:
        """Prompt -> version and digest."""
        return {name: f"{prompt.version} {prompt.digest[:16]}" for name, prompt in self.files.items()}

    def render(self, operator: str, context: Mapping[str, Any]) -> tuple[Message, ...]:
        """Fill in the system prompt and the operator's.

        Raises
        ------
        DataError
            A template is wrong or names something that does not exist.
        """
        return (
            Message("system", self._filled("system", context)),
            Message("user", self._filled(operator, context)),
        )

    def theme(self, seed: Sequence[int]) -> str:
        """Return the theme of a slot; `seed` is the search's, the generation and the slot. One generation repeats none.

        Raises
        ------
        DataError
            There are none.
        """
        *generation, slot = seed
        themes = [line[2:].strip() for line in self.files["themes"].text.splitlines() if line.startswith("- ")]
        if not themes:
            raise DataError('prompt themes.md: holds no line that begins with "- "')
        return themes[int(np.random.default_rng(generation).permutation(len(themes))[slot % len(themes)])]

    def _filled(self, name: str, context: Mapping[str, Any]) -> str:
        environment = jinja2.Environment(
            undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
        )
        try:
            return environment.from_string(self.files[name].text).render(context).strip() + "\n"
        except jinja2.TemplateError as error:
            raise DataError(f"prompt {name}.md: {error}") from None


def _read(path: Path, name: str) -> Prompt:
    try:
        raw = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"prompt {path}: cannot be read: {error}") from None
    match = _FRONT.match(raw)
    if match is None:
        raise DataError(f"prompt {path}: must begin with the lines ---, version: N, ---")
    return Prompt(name, match.group(1), raw[match.end() :], hashlib.sha256(raw.encode()).hexdigest())

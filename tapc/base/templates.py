"""Templates of texts that are no markup of a browser's: C, Markdown, YAML, build files."""

from pathlib import Path

import jinja2


def text_environment(folder: Path) -> jinja2.Environment:
    """Return the environment of a folder's templates: lines of statements leave none, and unknown names are errors."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )

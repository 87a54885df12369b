"""Templates of packages: text for C, CMake, Kconfig, XML, YAML and JSON, whatever a network is called."""

import functools
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import jinja2

from tapc.base.templates import text_environment
from tapc.lower.ctext import c_comment, c_string

_TEMPLATES = Path(__file__).parents[1] / "templates" / "export"


@functools.cache
def _environment() -> jinja2.Environment:
    environment = text_environment(_TEMPLATES)
    # A string of JSON is one of YAML, too, once it holds no surrogates: titles hold none.
    environment.filters |= {
        "comment": c_comment,
        "c_string": c_string,
        "json": lambda value: json.dumps(value, ensure_ascii=False),
        "xml": lambda value: escape(str(value), {'"': "&quot;"}),
    }
    return environment


def render(template: str, **values: Any) -> str:
    """Return a template's text."""
    return _environment().get_template(f"{template}.j2").render(tapc=version("tapc"), **values)

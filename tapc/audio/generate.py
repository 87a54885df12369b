"""A front end as C: tables and code in one file, and its header."""

import textwrap
from importlib.metadata import version
from pathlib import Path

import numpy as np

from tapc.audio.reference import FULL, log2
from tapc.audio.spec import FrontEnd, Quantization
from tapc.audio.tables import LOG_BITS, ONE, Ints, tables_of
from tapc.base.templates import text_environment

_FOLDER = Path(__file__).parent / "templates"


def files_of(spec: FrontEnd, quantization: Quantization, columns: int, prefix: str) -> dict[str, str]:
    """Return PREFIX_frontend.h and PREFIX_frontend.c.

    Parameters
    ----------
    spec : FrontEnd
    quantization : Quantization
        Of the network's input.
    columns : int
        Columns of a clip.
    prefix : str
        What all names begin with.
    """
    t = tables_of(spec, quantization)
    power = 2 if spec.spectrum == "power" else 1
    level = int(log2(np.array([FULL], np.uint64), t.log)[0])
    context = {
        "version": version("tapc"),
        "p": f"{prefix}_frontend",
        "u": f"{prefix.upper()}_FRONTEND",
        "spec": spec,
        "quantization": quantization,
        "columns": columns,
        "t": t,
        "last": int((t.first + t.counts).max()) - 1,
        "log_bits": LOG_BITS,
        "one": ONE,
        "full": FULL,
        "offset": power * level + t.unit * ONE,
        "floor": max(1, (t.floor * FULL**power) >> 16),
        "arrays": {
            name: (kind, len(values), _lines(values))
            for name, kind, values in (
                ("window", "uint16_t", t.window),
                ("sine", "uint16_t", t.sine),
                ("filter_first", "uint16_t", t.first),
                ("filter_count", "uint16_t", t.counts),
                ("filter_weight", "uint16_t", t.weights),
                ("log2_table", "uint16_t", t.log),
                ("cosine", "int16_t", t.dct.reshape(-1)),
            )
            if len(values)
        },
    }
    environment = text_environment(_FOLDER)
    return {
        f"{prefix}_frontend{end}": environment.get_template(f"frontend{end}.j2").render(context) for end in (".h", ".c")
    }


def _lines(values: Ints) -> list[str]:
    return textwrap.wrap(", ".join(map(str, values.tolist())), 110)

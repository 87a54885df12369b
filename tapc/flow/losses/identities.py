"""Which network a table is of, by digest: names differ from file to file, and two networks may share one."""

import json
from collections.abc import Mapping
from functools import lru_cache

from tapc.base.files import write_whole
from tapc.flow.losses.table import FOLDER
from tapc.hardware.board import read_toml

PATH = FOLDER.parent / "networks.toml"


@lru_cache(maxsize=1)
def identities() -> dict[str, str]:
    """Return the digests of the networks that tables come with tapc of, by name; see `tapc.frontend.identity`.

    `examples/make_tapc_bench2.py --identities` and `examples/train_search_networks.py` write them.
    """
    return {str(name): str(value) for name, value in read_toml(PATH, "the benchmark's networks").items()}


def save_identities(found: Mapping[str, str]) -> None:
    """Add digests of networks, or put them in the place of earlier ones."""
    lines = [
        f"{json.dumps(name)} = {json.dumps(value)}" for name, value in sorted((identities() | dict(found)).items())
    ]
    write_whole(PATH, "\n".join(lines) + "\n")

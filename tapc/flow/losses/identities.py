"""Which network a table is of, by digest: names differ from file to file, and two networks may share one."""

from functools import lru_cache

from tapc.flow.losses.table import FOLDER
from tapc.hardware.board import read_toml

PATH = FOLDER.parent / "networks.toml"


@lru_cache(maxsize=1)
def identities() -> dict[str, str]:
    """Return the digests of the benchmark's networks by name; see `tapc.frontend.identity`.

    `python examples/make_tapc_bench2.py --identities` writes them.
    """
    return {str(name): str(value) for name, value in read_toml(PATH, "the benchmark's networks").items()}

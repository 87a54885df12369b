"""What lies in each memory of the board."""

from pydantic import BaseModel, ConfigDict


class RegionReport(BaseModel):
    """A memory and what the image has in it.

    Attributes
    ----------
    name, kind : str
        As the board's file has them.
    origin, size : int
        Address and bytes.
    parts : dict of str to int
        Bytes of `network` (code and constants), `weights` (in external flash), `copies` (of what start-up takes from
        flash), `support` (commands and clock, and their variables), `arena`, `variables` and `stack`: of the high-water
        mark, or reserved where nothing ran. The rest is free; the stack may grow into it where it shares it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: str
    origin: int
    size: int
    parts: dict[str, int]

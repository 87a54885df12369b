"""By which algorithm a layer is computed, and what the others would have cost."""

from pydantic import BaseModel, ConfigDict


class AlternativeReport(BaseModel):
    """One way to compute a layer, by the cost model.

    Attributes
    ----------
    algorithm : str
        "direct", a transform ("f2", "f4"), or "nested": narrow weights stored as bytes, of which two share a half-word.
    taken : bool
        The layer is computed so.
    instructions : int
    cycles : int or None
        Of these, and of reading the constants once; None where nothing tells the core's cycles.
    constant_bytes, code_bytes, scratch_bytes : int
        In flash, the code of all layers that share it, and in the arena while the layer runs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    algorithm: str
    taken: bool
    instructions: int
    cycles: int | None
    constant_bytes: int
    code_bytes: int
    scratch_bytes: int

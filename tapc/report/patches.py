"""What of a network is computed band by band."""

from pydantic import BaseModel, ConfigDict, Field

from tapc.ir.program import Program
from tapc.lower.patches import in_bands, summaries


class PatchReport(BaseModel):
    """A part of the network that is computed band by band.

    Attributes
    ----------
    source, result : str
        The tensors that it reads and makes.
    rows : int
        Of the result, in every band but the last.
    bands : int
    layers : tuple of str
    macs, extra_macs : int
        Multiply-accumulates of all bands, and those of them that are computed twice.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    result: str
    rows: int
    bands: int
    layers: tuple[str, ...] = Field(min_length=1)
    macs: int
    extra_macs: int

    def __str__(self) -> str:
        return in_bands(self.layers, self.bands, self.rows, self.macs, self.extra_macs)


def patch_reports(program: Program) -> tuple[PatchReport, ...]:
    """Report what is computed band by band."""
    return tuple(
        PatchReport(
            source=own.patch.source,
            result=own.patch.result,
            rows=own.patch.rows,
            bands=own.bands,
            layers=own.layers,
            macs=own.macs,
            extra_macs=own.extra_macs,
        )
        for own in summaries(program)
    )

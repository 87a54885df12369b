"""What a compilation did not take, and why."""

from pydantic import BaseModel, ConfigDict

from tapc.base.refusal import Kind


class RefusedReport(BaseModel):
    """An alternative that was refused; see `tapc.base.refusal.Refusal`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    what: str
    why: str

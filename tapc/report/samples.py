"""What the samples of a compilation are."""

from pydantic import BaseModel, ConfigDict


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SampleFiles(_Frozen):
    """Where samples came from, so that they are found again.

    Attributes
    ----------
    data, test_data : str or None
        Files or folders as they were given.
    dataset : str
        Name of the network's own data set, where that was taken; else empty.
    """

    data: str | None = None
    test_data: str | None = None
    dataset: str = ""


class Inputs(_Frozen):
    """What the calibration samples are.

    Attributes
    ----------
    units : str
        What was done to raw values: "raw x 0.00392157".
    low, high : float or None
        Least and largest raw value of the calibration samples.
    kind : {"integers", "floats", "random"}
    """

    units: str
    low: float | None
    high: float | None
    kind: str

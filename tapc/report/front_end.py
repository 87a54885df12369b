"""What a front end of audio beside the library takes."""

from pydantic import BaseModel, ConfigDict


class FrontEndReport(BaseModel):
    """A front end, and where it ran what it takes on a core.

    Attributes
    ----------
    name : str
        As it was asked for.
    kind : str
        "mfcc" or "log-mel".
    rate, hop, features : int
        Samples a second, samples from column to column, and values of a column.
    flash : int or None
        Bytes of its code and tables.
    ram : int or None
        Bytes of its variables, beside those of the network.
    first, instructions : int or None
        Instructions until a stream's first hop is missing, and from there to its first column: a hop's samples and
        all of the computation, as every later column takes.
    columns : int
        Columns that were compared with the reference; 0 where nothing ran.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: str
    rate: int
    hop: int
    features: int
    flash: int | None = None
    ram: int | None = None
    first: int | None = None
    instructions: int | None = None
    columns: int = 0

    def __str__(self) -> str:
        what = f"{self.name}, {self.features} values for every {self.hop} samples at {self.rate} Hz"
        if self.flash is None or self.ram is None or self.instructions is None:
            return f"{what}; not run"
        second = self.instructions * self.rate // self.hop
        return (
            f"{what}: {self.flash:,} bytes of flash, {self.ram:,} of RAM, {self.instructions:,} instructions a column "
            f"({second:,} a second of audio); {self.columns} columns equal the reference"
        )

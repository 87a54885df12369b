"""Every error a user can cause: what was wrong, where, and what to do. Exit codes are part of the interface."""


class TapcError(Exception):
    """Base of tapc's errors; the command line prints the message and leaves with `exit_code`."""

    exit_code = 1


class UsageError(TapcError):
    """An unknown board, model or proxy, or an option that cannot be honoured."""

    exit_code = 2


class UnsupportedError(TapcError):
    """The network uses an operator, attribute or dynamic shape that tapc does not lower."""

    exit_code = 3


class RangeError(UnsupportedError, ValueError):
    """The ranges of weights or activations are too far apart for the integer arithmetic."""


class DataError(TapcError):
    """An input file is missing, corrupt or of the wrong shape; weights or samples are not finite."""

    exit_code = 4


class BudgetError(TapcError):
    """The network does not fit: names the region, the bytes and the smallest workable budget."""

    exit_code = 5


class ToolError(TapcError):
    """A compiler or simulator is missing or failed; names the command that installs it."""

    exit_code = 6


class MismatchError(TapcError):
    """The device's output differs from the reference executor's."""

    exit_code = 7


class OutputError(TapcError):
    """The output folder cannot be written."""

    exit_code = 8

"""How untrusted code can fail."""

KINDS = (
    "syntax",  # does not parse
    "forbidden",  # the source check rejected it, or the kernel stopped it
    "exception",  # raised
    "timeout",  # too much processor time, or too long altogether
    "memory",  # too much memory
    "output",  # too large a result, or bytes on the result's channel that are no result
    "crash",  # ended without a result
    "missing",  # a function is not defined
    "result",  # returned something that is no JSON value
    "nondeterministic",  # two runs differ
)


class SandboxError(Exception):
    """Untrusted code failed; its author's fault, never the user's.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    """

    def __init__(self, kind: str, message: str) -> None:
        assert kind in KINDS
        super().__init__(message)
        self.kind = kind

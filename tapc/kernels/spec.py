"""What every kernel specification offers; equal specifications share one C function."""

from tapc.kernels.builder import Kernel

Features = dict[str, float]
"""Part of a kernel -> a count. Keys name a part and whatever changes its code."""


class KernelSpec:
    """Base of the specifications: frozen dataclasses of everything that changes the generated code."""

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        raise NotImplementedError

    @property
    def scratch_bytes(self) -> int:
        """Bytes of scratch memory."""
        return 0

    @property
    def transformed(self) -> bool:
        """Whether it is a convolution by a transform, which takes more of the stack than others."""
        return False

    @property
    def nested(self) -> bool:
        """Whether two weights share a half-word."""
        return False

    @property
    def passes(self) -> int:
        """How often a call reads its constants from memory, where no cache holds them."""
        return 1

    def instruction_features(self) -> Features:
        """Count how often each part of the kernel runs, exactly: what its instructions are linear in.

        Returns
        -------
        dict of str to float
            Part -> executions in one call.
        """
        raise NotImplementedError

    def code_features(self) -> Features:
        """Return the parts of the kernel's machine code, what its bytes are linear in: 1 for each part that it has."""
        return {f"code_{self.kind}": 1}

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        raise NotImplementedError

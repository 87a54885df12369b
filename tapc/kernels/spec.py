"""What every kernel specification offers; equal specifications share one C function."""

from tapc.kernels.builder import Kernel


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
    def passes(self) -> int:
        """How often a call reads its constants from memory, where no cache holds them."""
        return 1

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        raise NotImplementedError

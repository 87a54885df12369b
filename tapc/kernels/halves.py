"""Words and their halves in Python, and C of single instructions: for what intrinsics mean and are."""


def signed(value: int, bits: int) -> int:
    """Return the number that so many low bits are in two's complement."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def halves(value: int) -> tuple[int, int]:
    """Return the low and the high half-word."""
    return signed(value, 16), signed(value >> 16, 16)


def join(low: int, high: int) -> int:
    """Return the word of two half-words."""
    return signed((low & 0xFFFF) | (high & 0xFFFF) << 16, 32)


def smlad(a: int, b: int, acc: int) -> int:
    """Return what SMLAD does."""
    (a0, a1), (b0, b1) = halves(a), halves(b)
    return signed(acc + a0 * b0 + a1 * b1, 32)


def asm(template: str, *inputs: str) -> str:
    """Return C of one instruction with a result."""
    operands = ", ".join(f'"r"({name})' for name in inputs)
    return f'int32_t r; __asm__("{template}" : "=r"(r) : {operands}); return r;'

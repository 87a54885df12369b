"""What whole compilations are tested with."""

import tapc

BOARD = "stm32h7"
"""The board that most is tested on."""
OPTIONS = {
    "w8a8": tapc.Options(wbits=(8,)),
    "w4a8": tapc.Options(wbits=(4,)),
    "w2a8": tapc.Options(wbits=(2,)),
    "w4a4": tapc.Options(wbits=(4,), abits=(4,)),
    "mixed": tapc.Options(target_bits=4, abits=(4, 8)),
}


def few(options: tapc.Options, board: str = BOARD, **changes: object) -> tapc.Options:
    """Return options for few samples; other boards than the first get weights that are rounded in no time."""
    rounding = options.rounding if board == BOARD else "nearest"
    return tapc.Options(**{**vars(options), "calibration": 16, "eval": 4, "rounding": rounding, **changes})

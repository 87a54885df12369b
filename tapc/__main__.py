"""`tapc` and `python -m tapc`."""

import gc

from tapc.cli import main


def run() -> None:
    """Run a command and end the program."""
    try:
        main()
    finally:
        gc.freeze()  # the interpreter would look for cycles in all of torch's and sympy's objects first: half a second


if __name__ == "__main__":
    run()

"""`python -m tapc`."""

from tapc.cli import main

main()

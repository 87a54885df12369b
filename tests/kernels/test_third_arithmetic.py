"""An arithmetic is one file: one that nothing else knows runs through planning, kernels and the reference executor."""

import subprocess
import sys
from pathlib import Path

import pytest

from thorough import thorough

PROGRAM = Path(__file__).parent / "third_arithmetic.py"


@pytest.mark.parametrize("isa", ["scalar", *map(thorough, ("dsp", "mve"))])
def test_a_new_arithmetic_needs_nothing_but_its_file(isa: str) -> None:
    code = f"import sys; sys.path[:0] = {sys.path!r}; import runpy; sys.argv = ['', {isa!r}]; "
    code += f"runpy.run_path({str(PROGRAM)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

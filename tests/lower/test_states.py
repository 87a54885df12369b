"""Programs that keep something between calls: integers near onnxruntime's, the same in C, anew after a reset."""

import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import stateful
from kernels.programs import WARNINGS
from tapc.base.errors import DataError, UnsupportedError
from tapc.data import Samples
from tapc.device.verify import device_inputs, device_outputs, sequences
from tapc.flow.sequences import random_steps, with_states
from tapc.frontend import load
from tapc.graph.analysis import analyse
from tapc.lower import Lowered, lower
from tapc.lower.codes import input_codes, steps_apart, values
from tapc.lower.facts import Facts
from tapc.quantize import QuantizedModel, calibrate, evaluate, quantize, uniform_bits
from thorough import thorough

PAIRS = {
    stateful.cell: {"h_in": "h_out"},
    stateful.window: {"past": "past_out"},
    stateful.delays: {"a": "a_out", "b": "b_out"},
}


def quantized(  # type: ignore[no-untyped-def]
    write, folder: Path, bits: int = 8, pairs: dict[str, str] | None = None, **sizes: object
) -> tuple[QuantizedModel, Samples]:
    model = load(write(folder / "net.onnx", **sizes), state=pairs or PAIRS[write])
    samples = with_states(random_steps(model.onnx, 60, 0, -1.0, 1.0), model.onnx)
    network = analyse(model.onnx, "live")
    calibration = calibrate(model, samples.x, seed=0)
    return quantize(model, network, uniform_bits(network, bits, 8), calibration, x=samples.x), samples


def in_c(network: Lowered, codes: np.ndarray, steps: int, folder: Path) -> np.ndarray:
    """Run the library on sequences of so many steps, with a reset before each; outputs and states after every step."""
    network.library().write(folder)
    (folder / "live_example.c").write_text(
        '#include <stdio.h>\n#include "live.h"\n#include "live_steps.h"\n'
        "#ifndef LIVE_EACH_INPUT\n#define LIVE_EACH_INPUT(use) use(live_input(), LIVE_INPUT_BYTES)\n#endif\n"
        "#ifndef LIVE_EACH_OUTPUT\n#define LIVE_EACH_OUTPUT(use) use(live_output(), LIVE_OUTPUT_BYTES)\n#endif\n"
        "#define READ(memory, bytes) if (fread(memory, 1, bytes, stdin) != (bytes)) return 0;\n"
        "#define WRITE(memory, bytes) if (fwrite(memory, 1, bytes, stdout) != (bytes)) return 1;\n"
        "int main(void) {\n  (void)live_step_output;\n  for (int i = 0;; ++i) {\n"
        f"    if (i % {steps} == 0) live_reset();\n"
        "    LIVE_EACH_INPUT(READ)\n    live_run();\n    LIVE_EACH_OUTPUT(WRITE)\n    LIVE_EACH_STATE(WRITE)\n  }\n}\n"
    )
    flags = ("-O1", "-fsanitize=undefined,address", "-fno-sanitize-recover=all", "-fno-sanitize=alignment")
    sources = sorted(map(str, folder.glob("*.c")))
    subprocess.run(["gcc", *WARNINGS, *flags, *sources, "-o", str(folder / "run"), "-lm"], check=True)
    data = device_inputs(network, codes).tobytes()
    output = subprocess.run([str(folder / "run")], input=data, stdout=subprocess.PIPE, check=True).stdout
    return device_outputs(network.program, np.frombuffer(output, np.int8).reshape(len(codes), -1))


def kept_in_c(  # type: ignore[no-untyped-def]
    drawn, steps: int, count: int, isa: str, begun: bool
) -> None:
    write, sizes = drawn
    with tempfile.TemporaryDirectory() as name:
        made, samples = quantized(write, Path(name), **sizes)
        network = lower(made.onnx, "live", "fixed" if isa == "scalar" else "float", isa)  # type: ignore[arg-type]
        if begun:  # not with zeros: every element with a code of its own
            states = tuple(
                replace(kept, initial=tuple(np.random.default_rng(1).integers(own.low, own.high + 1, size).tolist()))
                for kept in network.program.states
                for own in [network.program.tensors[kept.before]]
                for size in [int(np.prod(own.shape))]
            )
            program, source = replace(network.program, states=states), replace(network.reference, states=states)
            network = replace(network, program=program, source=source)
        codes = input_codes(network.program, samples.x[: steps * count])
        codes, expected = sequences(network, codes, steps)
        np.testing.assert_array_equal(in_c(network, codes, steps, Path(name)), expected)


@pytest.mark.parametrize("case", [1, *map(thorough, (0, *range(2, 40)))])
def test_the_library_keeps_what_the_reference_keeps(case: int) -> None:
    rng = np.random.default_rng(case)

    def draw(low: int, high: int) -> int:
        return int(rng.integers(low, high + 1))

    writes = [
        (stateful.cell, {"n": draw(1, 9), "kept": draw(1, 9), "lead": ((2, 1), (1,), (1, 3))[case % 3]}),
        (stateful.delays, {"width": draw(1, 9)}),
        (stateful.window, {"channels": draw(1, 9), "frames": draw(2, 6), "outputs": draw(1, 9)}),
    ]
    isa = ("dsp", "scalar", "mve")[case // 3 % 3]
    kept_in_c(writes[case % 3], draw(1, 7), draw(1, 3), isa, case % 4 == 1)


def test_integers_follow_onnxruntime_over_whole_sequences(tmp_path: Path) -> None:
    made, samples = quantized(stateful.cell, tmp_path)
    network = lower(made.onnx, "live", "float", "dsp")
    program = network.reference
    _, outputs = sequences(network, input_codes(program, samples.x), samples.steps)
    theirs = evaluate(made.onnx, samples, optimized=False)
    # A gate of 16 bits is up to 13 steps of 2^-15 beside a tanh.
    apart, state_apart = steps_apart(program, values(program, outputs), theirs)
    assert apart <= 1.001
    assert state_apart <= 14
    # One step at a time, from states of the float network, is something else.
    alone = evaluate(made.onnx, samples.x, optimized=False)
    assert np.abs(alone - theirs).max() > 1e-3
    before, after = (program.tensors[name] for name in (program.states[0].before, program.states[0].after))
    assert before.quantization == after.quantization
    assert before.bits == after.bits == 16


def test_sequences_begin_anew_and_may_be_of_any_number(tmp_path: Path) -> None:
    made, samples = quantized(stateful.window, tmp_path)
    network = lower(made.onnx, "live", "float", "dsp")
    codes = input_codes(network.program, samples.x[:12])
    _, whole = sequences(network, codes, 12)
    _, parts = sequences(network, codes, 4)
    np.testing.assert_array_equal(whole[:4], parts[:4])
    assert (whole[4:8] != parts[4:8]).any()
    _, again = sequences(network, codes[4:8], 4)
    np.testing.assert_array_equal(parts[4:8], again)


def test_the_header_and_the_readme_say_when_to_begin_anew(tmp_path: Path) -> None:
    made, _ = quantized(stateful.cell, tmp_path)
    files = lower(made.onnx, "live", "float", "dsp").shown_files(Facts())
    assert "void live_reset(void);" in files["live.h"]
    assert "#define LIVE_STATE_BYTES 16 " in files["live.h"]
    assert "LIVE_INPUT_BYTES 6" in files["live.h"]
    assert "h_in" not in files["live.h"]
    assert "Call `live_reset()` before the first run" in files["README.md"]
    assert "live_reset();" in files["live_example.c"]


def test_states_that_exchange_their_values_are_told(tmp_path: Path) -> None:
    made, _ = quantized(stateful.delays, tmp_path, pairs={"a": "y", "b": "b_out"})
    with pytest.raises(UnsupportedError, match="exchange"):
        lower(made.onnx, "live", "float", "dsp")


def test_states_that_grow_without_end_are_told(tmp_path: Path) -> None:
    model = load(stateful.delays(tmp_path / "d.onnx"), state={"a": "sum", "b": "a_out"})  # a sum of all
    samples = random_steps(model.onnx, 400, 0, 1.0, 2.0)
    samples = replace(samples, x=samples.x * 1e36, steps=400)
    with pytest.raises(DataError, match="NaN or infinite from step"):
        with_states(samples, model.onnx)

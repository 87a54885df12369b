"""Networks of which the NPU computes parts and the CPU the rest: division, one arena, C, and the whole image."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from graph_builder import Builder, Model, residual
from npu.networks import Quantized, divided, in_image, quantized
from operators.examples import OPERATORS, Case, Instance, case
from tapc.base.errors import MismatchError, UnsupportedError
from tapc.flow.npu_divided import lowered_of
from tapc.flow.npu_image import missing, run_divided
from tapc.hardware.board import load_board
from tapc.ir.program import Op
from tapc.lower.codes import input_codes, random_codes
from tapc.lower.facts import Facts
from tapc.lower.reference import execute
from tapc.npu import micro
from tapc.npu.divided_proof import prove_divided
from tapc.npu.library import divided_files
from tapc.npu.parts import Divided, grouped, kernel_bits
from tapc.npu.proof import NpuProof
from tapc.npu.segment import Part, Segment

pytest.importorskip("ethosu", reason="needs ethos-u-vela")
needs_image = pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}")
NPU = load_board("mps3-an547").npu
assert NPU is not None


def two_ways() -> Model:
    """Two inputs, three outputs: one of the NPU's first part, one of the CPU's, one of the NPU's second part."""
    b = Builder((1, 4, 6, 6))
    left = b.node("Relu", [b.conv("x", "left", 4, 6)], "left.relu")
    right = b.conv("z", "right", 2, 6, stride=2)
    middle = b.conv(left, "middle", 6, 6, stride=2)
    return b.build(left, middle, b.node("Add", [middle, right], "sum"), inputs={"z": (1, 2, 6, 6)})


def kept(name: str) -> tuple[Quantized, tuple[str, ...]]:
    """Return a network, and what stays on the CPU."""
    if name == "two ways":
        return quantized(two_ways()), ("middle",)
    places = {
        "begins": ("stem",),
        "ends": ("fc",),
        "middle": ("b1",),
        "residual": ("a1", "a2"),
        "apart": ("a1", "pool"),
    }
    return quantized(residual(), 4), places[name]


def where(ops: tuple[Op, ...]) -> list[str]:
    return ["npu" if isinstance(op, Segment) else op.name for op in ops if not isinstance(op, Part)]


KINDS = {
    "begins": ["stem", "npu"],
    "ends": ["npu", "fc"],
    "middle": ["npu", "b1", "npu"],
    "residual": ["npu", "a1", "a2", "npu"],
    "apart": ["npu", "a1", "npu", "pool", "npu"],
    "two ways": ["npu", "middle", "npu"],
}


def samples(made: Divided, given: Quantized | Case) -> NDArray[np.int64]:
    """Return codes that the network is made for, and any."""
    own = input_codes(made.source, given.x)
    return np.concatenate([own, random_codes(made.source, 16, 0).reshape(16, *own.shape[1:])])


def proved(made: Divided, codes: NDArray[np.int64]) -> NpuProof:
    """Prove a network, and return what was compared."""
    assert NPU is not None
    assert np.array_equal(execute(made.program, codes), execute(made.source, codes))
    proof, otherwise = prove_divided(made, NPU.outputs_at_once, codes, ask_micro=micro.installed())
    assert proof.exact, [layer for layer in proof.layers if layer.different]
    assert otherwise == 0
    return proof


@pytest.mark.parametrize("kind", KINDS)
def test_as_few_parts_as_can_be_and_the_same_codes(kind: str) -> None:
    given, cpu = kept(kind)
    made = divided(given, cpu)
    assert where(made.program.ops) == KINDS[kind]
    assert set(made.reasons) == set(cpu)
    assert sum(len(part.program.ops) for part in made.parts) + len(cpu) == len(made.source.ops)
    proof = proved(made, samples(made, given))
    assert len(np.unique(proof.codes)) > 50
    on_npu = [layer for layer in proof.layers if layer.name not in cpu]
    assert sum(layer.elements > 0 for layer in on_npu) > len(on_npu) / 2
    assert all(layer.elements == 0 for layer in proof.layers if layer.name in cpu)


@needs_image
@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_image_gives_every_step(kind: str, tmp_path: Path) -> None:
    given, cpu = kept(kind)
    made = divided(given, cpu)
    assert image(made, input_codes(made.source, given.x)[:2], tmp_path) == 14 * len(made.parts)


@needs_image
def test_what_goes_wrong_is_told(tmp_path: Path) -> None:
    """The image's NPU is another one than the library is for: nothing runs, and the driver says so."""
    assert NPU is not None
    made = divided(*kept("apart"))
    codes = input_codes(made.source, kept("apart")[0].x)[:1]
    image(made, codes, tmp_path)
    other = NPU.model_copy(update={"accelerator": "ethos-u55-64"})
    with pytest.raises(MismatchError, match="driver returned 2"):
        run_divided(tmp_path, lowered_of(made), other, codes)
    # Each inference begins anew: only the first part forgets what went wrong before.
    driver = (tmp_path / "example_npu.c").read_text()
    assert driver.count("/* an inference begins */") == 1
    assert driver.count("if (state != EXAMPLE_NPU_OK)") == len(made.parts) - 1


def test_inputs_and_outputs_lie_in_the_npus_memory_where_they_can() -> None:
    """A part of one input that dies in it and one output takes no byte beside the NPU's arena, aligned at run time."""
    for kind in ("begins", "ends"):
        made = divided(*kept(kind))
        assert lowered_of(made).plan.size == max(part.optimized.size for part in made.parts) + 28
    made = divided(*kept("residual"))  # the stem's output waits for the addition beside the CPU's layers
    assert lowered_of(made).plan.size < max(part.optimized.size for part in made.parts) + 28 + 12 * 12 * 8 + 4


def image(made: Divided, codes: NDArray[np.int64], folder: Path) -> int:
    """Run samples in an image and return how many registers were written."""
    assert NPU is not None
    found, writes = in_image(made, codes, folder)
    lowered = lowered_of(made)
    assert found.exact, str(found.mismatch)
    assert set(found.layers) == {step.op.name for step in lowered.steps}
    assert np.array_equal(found.codes, execute(made.source, codes))
    return writes


@needs_image
def test_every_operator_where_it_can_be(tmp_path: Path) -> None:
    """Half of them side by side, with activations of 4 bits, too, and tokens: those without a form are the CPU's."""
    given = case([Instance(name, 0) for name in OPERATORS[::2]])
    made = divided(given)
    assert len(made.parts) >= 2
    assert 10 < len(made.reasons) < len(made.source.ops) - 10
    codes = samples(made, given)
    proof = proved(made, codes)
    assert sum(layer.elements > 0 for layer in proof.layers) > 10
    assert image(made, codes[:2], tmp_path) == 14 * len(made.parts)


def test_parts_that_only_move_stay_on_the_cpu() -> None:
    given = quantized(residual())
    made = divided(given, ["pool", "fc"])
    assert set(made.reasons) == {"pool", "flatten", "fc"}
    assert "stands among moves alone" in made.reasons["flatten"]
    assert "flatten" not in divided(given, ["fc"]).reasons


def test_what_vela_leaves_is_the_cpus() -> None:
    given = case([Instance("Conv", 0), Instance("Reshape", 0)], abits=(8,))
    made = divided(given)
    assert {made.reasons[name] for name in made.reasons} == {"vela leaves it to the CPU"}
    assert [type(op).__name__ for op in made.source.ops if op.name in made.reasons] == ["Move"]
    proved(made, samples(made, given))


def test_a_network_of_which_the_npu_takes_nothing_is_told() -> None:
    given, _ = kept("begins")
    names = [op.name for op in divided(given, ["stem"]).source.ops]
    with pytest.raises(
        UnsupportedError, match=r"the NPU takes no operator of example: operator 'stem': a test keeps it"
    ):
        divided(given, names)


def test_weights_of_the_cpu_are_stored_in_bits_of_its_kernels() -> None:
    assert [kernel_bits(bits) for bits in range(2, 9)] == [2, 4, 4, 8, 8, 8, 8]
    given = quantized(residual(), 3)
    made = divided(given, ["b1", "fc"])
    proved(made, samples(made, given))
    steps = {step.op.name: step for step in lowered_of(made).steps}
    # Sixteen outputs of nine taps in eight channels, half a byte each; Helium's kernel may fill up rows.
    assert 8 * 9 * 16 // 2 <= steps["b1"].constants["w"].bytes <= 8 * 10 * 16 // 2


def test_groups_do_not_wait_for_each_other_in_a_circle() -> None:
    """An operator of the NPU behind the CPU's is in a later part than what that needs, however it is written down."""
    given, _ = kept("two ways")
    source = divided(given, ["middle"]).source
    for cpu in ({"left"}, {"middle"}, {"right", "middle"}, {"left", "sum"}, {"right"}):
        done = set(source.inputs)
        for group in grouped(source, cpu):
            made = {op.output for op in group.ops}
            assert {name for op in group.ops for name in op.inputs} <= done | made
            done |= made
        assert done >= set(source.outputs)


@pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="needs arm-none-eabi-gcc")
def test_the_library_builds_for_a_cortex_m55(tmp_path: Path) -> None:
    """With Helium in the CPU's kernels, and caches: the NPU's file without a warning."""
    assert NPU is not None
    given, cpu = kept("apart")
    files = divided_files(lowered_of(divided(given, cpu)), NPU, Facts())
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert "vldr" in files["example_intrinsics.h"] or "arm_mve.h" in files["example_intrinsics.h"]
    assert "example_npu.c" in files["CMakeLists.txt"]
    assert "example_npu_run()" in files["README.md"]
    flags = ["-mcpu=cortex-m55", "-mfloat-abi=hard", "-O2", "-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    for name in ("example_npu.c", "example_kernels.c", "example_weights.c", "example.c"):
        command = ["arm-none-eabi-gcc", *flags, "-DEXAMPLE_NPU_DCACHE=1", "-c", name, "-o", "object.o"]
        built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert built.returncode == 0, built.stderr

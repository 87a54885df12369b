"""The executor of Ethos-U55 commands against the reference executor, which TFLite-Micro agrees with."""

import numpy as np
import pytest

from npu.networks import OPERATORS, accelerator, on_npu
from operators.examples import Instance
from tapc.base.errors import ToolError, UnsupportedError
from tapc.npu import vela
from tapc.npu.commands import Operation, Parameter, Registers, steps, stream_of
from tapc.npu.proof import prove
from tapc.npu.vela import compile_file

pytest.importorskip("ethosu", reason="needs ethos-u-vela")


@pytest.mark.parametrize(
    ("configuration", "number"),
    [("ethos-u55-128", 0), ("ethos-u55-64", 1), ("ethos-u55-32", 2), ("ethos-u55-256", 3)],
)
def test_every_layer_and_output_equals_the_reference(configuration: str, number: int) -> None:
    target = accelerator(configuration)
    built = on_npu([Instance(name, number) for name in OPERATORS], target)
    proof = prove(
        built.program, built.network, built.compiled, built.optimized, target.outputs_at_once, built.samples()
    )
    assert proof.exact, [layer for layer in proof.layers if layer.different]
    compared = [layer for layer in proof.layers if layer.elements]
    assert len(compared) > len(proof.layers) / 2
    assert len(np.unique(proof.codes)) > 100


def test_a_changed_command_is_seen() -> None:
    target = accelerator()
    built = on_npu([Instance("Conv", 0), Instance("Add", 1)], target)
    words = built.optimized.words.copy()
    place = max(i for i, word in enumerate(words) if word & 0xFFFF == Parameter.OFM_ZERO_POINT)
    words[place] += 1 << 16
    object.__setattr__(built.optimized, "words", words)
    proof = prove(
        built.program, built.network, built.compiled, built.optimized, target.outputs_at_once, built.samples()
    )
    assert not proof.exact


@pytest.mark.parametrize("word", [0x0000_0099, 0x0000_4077, 0x0000_01FF])
def test_unknown_words_are_errors(word: int) -> None:
    with pytest.raises(UnsupportedError, match=f"word 0 of the command stream, 0x{word:08x}, is not known"):
        list(steps([word, 0, 0], Registers()))


def test_a_stream_must_end() -> None:
    with pytest.raises(UnsupportedError, match="ends without a stop"):
        list(steps([int(Operation.POOL)], Registers()))


def test_what_is_no_stream_is_told() -> None:
    with pytest.raises(UnsupportedError, match="does not begin with COP1"):
        stream_of(np.zeros(16, np.uint8))


def test_unknown_configurations_are_told() -> None:
    with pytest.raises(UnsupportedError, match="vela knows no accelerator 'ethos-u55-100'"):
        compile_file(b"", accelerator("ethos-u55-100"))


def test_files_that_vela_does_not_read_are_told() -> None:
    with pytest.raises(ToolError, match="vela failed"):
        compile_file(b"TFL3", accelerator())


def test_without_vela_the_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vela.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ToolError, match=r"pip install 'tapc\[npu\]'"):
        compile_file(b"", accelerator())

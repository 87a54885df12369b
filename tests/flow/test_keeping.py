"""What a quantized network that is kept as it is may be told."""

from dataclasses import replace
from pathlib import Path

import pytest

from tapc.base.errors import UsageError
from tapc.base.options import Options
from tapc.base.progress import Stages
from tapc.flow.inputs import load_data
from tapc.flow.keeping import arithmetic_for, kept, kept_options
from tapc.frontend import FloatModel, load
from tapc.hardware.board import load_board
from tapc.hardware.target import load_target
from tflite_micro_files import Int8Builder, Quantization


def network(folder: Path, *, keep: bool = True) -> FloatModel:
    b = Int8Builder(1, 4, 4, 2, quantization=Quantization(0.05, 3))
    out = b.node("LEAKY_RELU", [b.input], (1, 4, 4, 2), Quantization(0.04, -7), "LeakyReluOptions", alpha=0.1)
    (folder / "net.tflite").write_bytes(b.finish(out))
    return load(folder / "net.tflite", keep=keep)


def test_the_arithmetic_is_the_sources_the_cores_or_what_was_asked_for(tmp_path: Path) -> None:
    kept, anew = network(tmp_path), network(tmp_path, keep=False)
    core = load_target("cortex-m0plus")
    assert arithmetic_for(kept, core, Options()).requantize == "tflite"
    assert arithmetic_for(anew, core, Options()).requantize == "fixed"
    assert arithmetic_for(kept, core, Options(arithmetic="float")).requantize == "float"


def test_what_chooses_bits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"net is quantized already \(int8 TFLite\).*--target-bits needs --requantize"):
        kept_options(network(tmp_path), Options(target_bits=4))
    with pytest.raises(UsageError, match=r"net is quantized already \(int8 TFLite\).*--wbits needs --requantize"):
        kept_options(network(tmp_path), Options(wbits=(4,)))
    assert not kept_options(network(tmp_path), Options()).equalize
    assert kept_options(network(tmp_path, keep=False), Options(target_bits=4)).equalize


def test_a_float_network_has_nothing_to_keep(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="net is a float network: its layers hold no integers to keep"):
        kept_options(network(tmp_path, keep=False), Options(keep=True))


def test_what_tells_how_to_choose_is_warned_of(tmp_path: Path) -> None:
    model, stages = network(tmp_path), Stages()
    options = kept_options(model, Options(rounding="nearest", pin_first=True, eval=1, simulate=False))
    data, board = load_data(model, "random", options), load_board("stm32h7")
    target = arithmetic_for(model, load_target(board.core), options)
    *_, warnings = kept(model, data, board, target, tmp_path, options, stages)
    assert warnings == (
        "net is quantized already and is kept as it is: without --requantize these have no effect: --rounding, --pin",
    )
    *_, warnings = kept(
        model, data, board, target, tmp_path, replace(options, rounding="gptq", pin_first=False), stages
    )
    assert warnings == ()

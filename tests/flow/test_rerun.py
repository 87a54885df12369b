"""Build folders that were damaged or made by somebody hostile: an error that names them, and nothing else."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import external_data_helper

from graph_builder import residual
from tapc.base import confine
from tapc.base.errors import DataError, TapcError, ToolError, UsageError
from tapc.base.progress import Stages
from tapc.flow.evaluation import evaluate_build
from tapc.flow.profile import profile
from tapc.flow.rerun import open_build, rerun
from tapc.flow.showing import describe, draw


@pytest.fixture
def build(pico_build: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pico_build, tmp_path / "b"))


def run(folder: Path) -> None:
    rerun(folder, data=None, samples=1, seed=0, all_layers=True, stages=Stages())


def change(folder: Path, **values: object) -> None:
    report = json.loads((folder / "report.json").read_text())
    (folder / "report.json").write_text(json.dumps(report | values))


def test_an_untouched_build_runs(build: Path) -> None:
    run(build)
    assert profile(build).instructions > 0


def test_a_build_may_be_anybodys(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confine, "landlock_version", lambda: 0)
    for use in (run, profile):
        with pytest.raises(ToolError, match=r"twin\.elf is not run: on this machine nothing keeps"):
            use(build)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "7", '{"schema": 1}', "[" * 100_000, '{"schema": 1' + "0" * 5000 + "}", '{"schema": [/red]}', "\x00"],
    ids=range(8),
)
def test_reports_that_are_none(text: str, build: Path) -> None:
    (build / "report.json").write_text(text)
    with pytest.raises(DataError, match=r"report\.json|holds no tapc build|report schema"):
        open_build(build)


@pytest.mark.parametrize(
    "values",
    [
        {"core": "../../../etc"}, {"core": 7}, {"board": "/etc/passwd"}, {"board": "../secret.toml"}, {"seed": -1},
        {"seed": 10**400}, {"seed": "x"}, {"pixel_scale": 0}, {"mean": "x"}, {"model": None}, {"schedules": [1]},
        {"schedules": {"stem": {"rows": 10**30}}}, {"schedules": {"stem": {"x": 1}}},
    ],
    ids=str,
)  # fmt: skip
def test_reports_with_wrong_values(values: dict[str, object], build: Path) -> None:
    change(build, **values)
    with pytest.raises((DataError, UsageError)):
        describe(build, "steps")


@pytest.mark.parametrize("name", ["report.json", "model.onnx", "twin.elf"])
@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "missing", "empty", "noise"])
def test_files_that_are_none(name: str, kind: str, build: Path, tmp_path: Path) -> None:
    path = build / name
    whole = path.read_bytes()
    path.unlink()
    if kind == "link":
        (tmp_path / "elsewhere").write_bytes(whole)
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind in ("empty", "noise"):
        path.write_bytes(b"" if kind == "empty" else np.random.default_rng(0).bytes(len(whole)))
    with pytest.raises(DataError, match=re.escape(str(build))):
        run(build)


def external(tensor: onnx.TensorProto) -> None:
    external_data_helper.set_external_data(tensor, "/etc/passwd")
    tensor.ClearField("raw_data")


def no_nodes(model: onnx.ModelProto) -> None:
    del model.graph.node[:]


def huge(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 1 << 62


def cut(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        tensor.raw_data = tensor.raw_data[:-1]


@pytest.mark.parametrize(
    "damage",
    [lambda model: external(model.graph.initializer[0]), no_nodes, huge, cut],
    ids=["external", "no", "huge", "cut"],
)
def test_damaged_networks(damage: Callable[[onnx.ModelProto], None], build: Path) -> None:
    model = onnx.load(build / "model.onnx")
    damage(model)
    onnx.save(model, build / "model.onnx")
    with pytest.raises(TapcError) as raised:
        run(build)
    assert raised.value.exit_code in (3, 4)


def test_a_float_network_with_outside_data(build: Path, tmp_path: Path) -> None:
    model = onnx.load(build / "float.onnx")
    external(model.graph.initializer[0])
    (build / "float.onnx").write_bytes(model.SerializeToString())
    np.savez(tmp_path / "x.npz", x=np.zeros((8, 3, 12, 12), np.float32), y=np.zeros(8, np.int64))
    with pytest.raises(DataError, match="points at other files"):
        evaluate_build(build, tmp_path / "x.npz", samples=1, everything=True, seed=0, stages=Stages())


def test_the_twin_of_another_network(build: Path, tmp_path: Path) -> None:
    image = bytearray((build / "twin.elf").read_bytes())
    onnx.save(residual(1).onnx, tmp_path / "net.onnx")
    from elftools.elf.elffile import ELFFile

    with (build / "twin.elf").open("rb") as stream:
        elf = ELFFile(stream)
        symbol = elf.get_section_by_name(".symtab").get_symbol_by_name("tapc_twin_info")[0]
        section = elf.get_section(symbol["st_shndx"])
        place = section["sh_offset"] + symbol["st_value"] - section["sh_addr"]
    image[place] += 1
    (build / "twin.elf").write_bytes(image)
    for use in (run, profile):
        with pytest.raises(DataError, match="is not that of model"):
            use(build)


def test_a_picture_of_a_report_without_its_layers(build: Path, tmp_path: Path) -> None:
    change(build, layers=[{"name": 1}])
    with pytest.raises(DataError, match="is damaged"):
        draw(build, tmp_path / "p.svg")

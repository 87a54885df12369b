import shutil
from pathlib import Path

import pytest

from tapc.base.errors import DataError, UsageError
from tapc.hardware.board import shipped
from tapc.hardware.target import load_target, target_names


def test_shipped_targets() -> None:
    arithmetic = {
        "cortex-m0": "fixed",
        "cortex-m0plus": "fixed",
        "cortex-m3": "fixed",
        "cortex-m33": "float",
        "cortex-m4": "float",
        "cortex-m55": "float",
        "cortex-m7": "float",
        "rv32imc": "fixed",
    }
    assert {name: load_target(name).requantize for name in target_names()} == arithmetic
    assert load_target("cortex-m7").features == {"dsp", "fpu", "fpu-double"}
    assert load_target("cortex-m55").features == {"dsp", "fpu", "fpu-double", "mve"}
    assert load_target("cortex-m4").features == {"dsp", "fpu"}
    assert load_target("cortex-m0plus").features == frozenset()
    assert load_target("cortex-m33").features == {"dsp", "fpu"}
    assert load_target("rv32imc").features == frozenset()
    assert load_target("rv32imc").compiler == "riscv64-unknown-elf-"
    for name in target_names():
        target = load_target(name)
        assert all(path.is_file() for path in (*target.sources, target.linker))
        # without it gcc would fuse a multiplication and an addition, and round once instead of twice
        assert "-ffp-contract=off" in target.optimization


def test_unknown_target_lists_the_names() -> None:
    with pytest.raises(
        UsageError,
        match="unknown target 'cortex-m9'; known: cortex-m0, cortex-m0plus, cortex-m3, cortex-m33, cortex-m4, "
        "cortex-m55, cortex-m7, rv32imc",
    ):
        load_target("cortex-m9")


def test_only_c_toml_and_templates() -> None:
    files = {path.name.split(".", 1)[1] for path in shipped("targets").rglob("*") if path.is_file()}
    assert files == {"c", "toml", "ld.j2"}


@pytest.fixture
def own_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "targets" / "cortex-m8"
    folder.mkdir(parents=True)
    text = (shipped("targets") / "cortex-m4" / "target.toml").read_text()
    (folder / "target.toml").write_text(text.replace('"cortex-m4"', '"cortex-m8"'))
    monkeypatch.setenv("TAPC_PATH", str(tmp_path))
    return folder


def test_own_target_uses_common_files(own_target: Path) -> None:
    target = load_target("cortex-m8")
    assert target.sources == (shipped("targets") / "common" / "startup.c",)
    shutil.copy(target.sources[0], own_target / "startup.c")
    assert load_target("cortex-m8").sources == (own_target / "startup.c",)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "cortex-m8"', 'name = "cortex-m9"', "its name is 'cortex-m9', but its folder is 'cortex-m8'"),
        ('"startup.c"', '"begin.c"', r"'begin\.c' is neither in its folder nor in .*common"),
        ('"float"', '"double"', "requantize"),
        ('"dsp", ', '"dsp", "gpu", ', r"features\.1"),
        ("schema = 1", "schema = 1\nspeed = 3", "speed: Extra inputs"),
    ],
)
def test_errors_name_the_file(own_target: Path, old: str, new: str, message: str) -> None:
    toml = own_target / "target.toml"
    assert old in toml.read_text()
    toml.write_text(toml.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=message) as caught:
        load_target("cortex-m8")
    assert str(toml) in str(caught.value)

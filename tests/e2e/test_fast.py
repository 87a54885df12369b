"""--optimize speed: hot code and constants are copied to fast memories."""

from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from e2e.settings import compiled
from tapc.base.progress import Stages
from tapc.flow.rerun import rerun
from tapc.hardware.board import shipped

pytest.importorskip("unicorn", reason="needs Unicorn: pip install unicorn")


def sections(elf: Path) -> dict[str, tuple[int, int]]:
    with elf.open("rb") as stream:
        return {s.name: (s["sh_addr"], s["sh_size"]) for s in ELFFile(stream).iter_sections() if s["sh_size"]}


def test_the_flashed_image_and_its_twin(tmp_path: Path) -> None:
    report = compiled(tmp_path, "stm32h7", "fast", optimize="speed")
    assert report.exact
    found = sections(tmp_path / "fast/firmware.elf")
    assert found[".tapc_itcm"][0] == 0
    assert found[".tapc_dtcm"][0] == 0x20000000
    assert found[".tapc_arena"][0] > 0x20000000
    copied = {region.name: region.parts for region in report.memory.regions if "copies" in region.parts}
    assert {name: parts["copies"] for name, parts in copied.items()} == {
        name: found[f".tapc_{name}"][1] for name in ("itcm", "dtcm")
    }
    assert copied["dtcm"]["arena"] == report.memory.arena.measured
    assert {layer.region for layer in report.layers if layer.flash_bytes} == {"dtcm"}
    assert "run in itcm" in report.provenance["fast memories"]
    assert not report.memory.external
    usual = compiled(tmp_path, "stm32h7", "usual", simulate=False)
    assert not {".copies", ".tapc_itcm", ".tapc_dtcm"} & set(sections(tmp_path / "usual/firmware.elf"))
    assert "fast memories" not in usual.provenance
    assert usual.memory.arena_region == "axi_sram"
    again = rerun(tmp_path / "fast", data=None, samples=2, seed=1, all_layers=True, stages=Stages(), device="unicorn")
    assert all(layer.exact for layer in again.layers)
    assert again.instructions == pytest.approx(report.instructions, abs=3 * len(report.layers))


def test_a_memory_that_is_smaller_than_its_code(tmp_path: Path) -> None:
    """The linker finds it full: fewer kernels go there."""
    text = (shipped("boards") / "stm32h7.toml").read_text().replace('size = "64K"', "size = 1024", 1)
    (tmp_path / "small.toml").write_text(text.replace('name = "stm32h7"', 'name = "small"'))
    report = compiled(tmp_path, str(tmp_path / "small.toml"), "b", optimize="speed", simulate=False)
    found = sections(tmp_path / "b/firmware.elf")
    assert 0 < found[".tapc_itcm"][1] <= 1024
    assert "of 8 kernels run in itcm" in report.provenance["fast memories"]


def test_a_board_without_such_memories(tmp_path: Path) -> None:
    report = compiled(tmp_path, "pico", "speed", optimize="speed", simulate=False)
    assert report.provenance["fast memories"].startswith("none: pico has no memory that is faster")
    assert not [
        name for name in sections(tmp_path / "speed/firmware.elf") if name.startswith((".copies", ".tapc_itcm"))
    ]

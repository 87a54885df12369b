"""QEMU's counter plugin, which several processes may build at once."""

from pathlib import Path

from tapc.device.plugin import _keep_first


def test_a_plugin_that_is_in_use_stays_the_file_that_it_is(tmp_path: Path) -> None:
    place = tmp_path / "counters.so"
    for text in ("first", "second"):
        built = tmp_path / text
        built.write_text(text)
        _keep_first(built, place)
        known = place.stat().st_ino
    assert place.read_text() == "first"
    assert place.stat().st_ino == known == (tmp_path / "first").stat().st_ino

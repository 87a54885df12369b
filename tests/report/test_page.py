"""The page of a build: its figures, and names that try to break it, in a real browser as well."""

import io
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tapc.report import Report
from tapc.report.page import arena_boxes, layer_rows, page, percent, region_parts, write_page
from tapc.report.timing import BoardTimes

SCRIPT = '"\'><script>window.hacked = 1</script><img src=x onerror="window.hacked = 1"></svg></title></bdi>{{ 7 * 7 }}'
HOSTILE = (SCRIPT, "שלום\u202eabc\u2066", "n" * 3000, "a\x00b\x1b[2J\ud800", "' onmouseover='window.hacked = 1")
QUANTITY = {"predicted": 90_000, "measured": 95_140, "limit": 2_097_152}

BROKEN_CELLS = """
Array.from(document.querySelectorAll('td:not(.text), td.word')).filter(cell => {
    const range = document.createRange();
    range.selectNodeContents(cell);
    return !cell.innerText.includes(' ') && range.getBoundingClientRect().height > 30;
}).map(cell => cell.innerText)
"""


def layer(name: str, index: int) -> dict[str, Any]:
    return {
        "name": name, "op": "conv", "w_bits": (2, 4, 8, None)[index % 4], "a_bits": 8, "out_bits": 8, "macs": 1000,
        "live_macs": 900, "bops": 64_000, "flash_bytes": 576, "arena_bytes": 1024, "predicted_instructions": 1_200,
        "instructions": 1_000 * (index + 1), "exact": True, "rounding": "gptq", "region": ("flash", "qspi")[index % 2],
        "stall_cycles": 1.0, "cycles": None,
    }  # fmt: skip


def report(names: tuple[str, ...] = ("stem", "head"), **values: Any) -> Report:
    tensors = [
        {"name": name, "region": "sram", "offset": 512 * (index % 2), "bytes": 512, "first": index, "last": index + 1}
        for index, name in enumerate(names)
    ]
    region = {"name": "flash", "kind": "flash", "origin": 0x8000000, "size": 2_097_152,
              "parts": {"network": 95_140, "support": 4_784}}  # fmt: skip
    share = 50.0
    frames = [{"name": name, "own": 88, "worst": 176 - 88 * index} for index, name in enumerate(names[:2])]
    return Report.model_validate({
        "schema": 1, "tapc": "0.1.0", "model": names[0], "source": f"file {names[0]}", "source_error": 1e-7,
        "board": "stm32h7", "core": "cortex-m7", "data": f"calibration: {names[-1]}", "pixel_scale": 1.0, "seed": 0,
        "exact": True, "exact_samples": 4, "layers": [layer(name, index) for index, name in enumerate(names)],
        "labels": names, "memory": {
            "flash": QUANTITY, "arena": QUANTITY | {"measured": 1024}, "stack": QUANTITY, "ram": QUANTITY,
            "external": {"qspi": QUANTITY}, "arena_region": "sram", "tensors": tensors, "support": 4_784,
            "regions": [region], "run_stack": {
                "bytes": 176, "path": [frames[0], frames[-1]], "functions": frames, "unknown": [names[-1]]}},
        "accuracy": {
            "float": share, "onnx": share, "device": share, "samples": 4, "onnx_agreement": 100.0, "onnx_max_step": 0,
            "metric": "top1", "scores": {name: {"top1": share} for name in ("float", "onnx", "device")},
            "confusion": np.eye(len(names), dtype=int).tolist()},
        "allocation": {
            "proxy": "error", "status": "optimal", "objective": 0.1, "bound": 0.1, "gap": 0.0,
            "sensitivity": {name: 1.0 for name in names}, "used": {"flash": {"used": 5.0, "limit": None}}},
        "instructions": 3_000, "cycles_estimated": 3_300.0, "predicted_instructions": 2_400, "macs": 2_000,
        "live_macs": 1_800, "bops": 128_000, "average_weight_bits": 3.5, "provenance": {"flash": f"by {names[0]}"},
        "refused": [
            {"kind": kind, "what": f"{names[0]} instead", "why": f"{names[-1]} too many"}
            for kind in ("bits", "layer")],
        "warnings": [f"a warning about {names[0]}"], "seconds": {"import": 1.5},
    } | values)  # fmt: skip


def times(names: tuple[str, ...] = ("stem", "head"), **values: Any) -> BoardTimes:
    return BoardTimes.model_validate({
        "port": "/dev/ttyACM0", "samples": 20, "runs": 30, "least": 3_900, "median": 4_000, "most": 4_100,
        "milliseconds": 2.0, "timing": {"hz": 2_000_000, "rated_hz": 2_000_000, "counter": "dwt"},
        "layers": [{"name": name, "cycles": 1_000 * 3**index} for index, name in enumerate(names)],
        "provenance": "measured(serial)", "firmware": "", "stack": 7, "unknown": "of a later version",
    } | values)  # fmt: skip


def cells(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", text.split("</style>")[1]))


def test_predicted_stands_beside_exact_and_measured() -> None:
    first, second = layer_rows(report(), times())
    assert (first.apart, first.cycles, first.milliseconds, first.share) == (pytest.approx(20.0), 1000, 0.5, 25.0)
    assert (second.cycles, second.milliseconds, second.share) == (3000, 1.5, 75.0)
    unmeasured = layer_rows(report(), None)
    assert [row.cycles for row in unmeasured] == [None, None]
    assert unmeasured[1].share == pytest.approx(100 * 2 / 3)
    text = cells(page(report(), times()))
    for shown in ("2.000 ms", "1,200", "+20.0 %", "0.500", "75.0 %", "3,900 / 4,000 / 4,100 cycles",
                  "dwt at 2,000,000 Hz", "network 95,140 B", "Bit-exact: every layer of 4 samples", "3,300",
                  "a warning about stem",
                  "tapc flash BUILD", "lib/README.md", "by stem", "right on the device (float: 50.0 %)"):  # fmt: skip
        assert shown in text, shown
    bare = cells(page(report(), None, "measured.json is of another image"))
    assert "No cycles were measured" in bare
    assert "measured.json is of another image" in bare
    assert " ms " not in bare


def test_cycles_that_the_compilation_measured() -> None:
    timing = {"hz": 1_000_000, "rated_hz": 4_000_000, "counter": "systick", "runs": 2, "least": 1, "median": 2.0,
              "most": 3, "milliseconds": 0.002}  # fmt: skip
    made = report(timing=timing, layers=[layer("stem", 0) | {"cycles": 1_500}, layer("head", 1) | {"cycles": 500}])
    assert [(row.cycles, row.milliseconds, row.share) for row in layer_rows(made, None)] == [
        (1500, 1.5, 75.0), (500, 0.5, 25.0)
    ]  # fmt: skip
    assert "the clock could not be raised to 4.0 MHz" in cells(page(made))


def test_where_nothing_ran() -> None:
    none = dict.fromkeys(("float", "onnx", "device", "onnx_agreement", "onnx_max_step"))
    unknown = {"instructions": None, "exact": None}
    made = report(exact=None, instructions=None, cycles_estimated=None, device="none", source_error=None, labels=None,
                  accuracy=none | {"samples": 0, "reason": "nothing ran"}, kept="int8 TFLite",
                  layers=[layer("stem", 0) | unknown, layer("head", 1) | unknown])  # fmt: skip
    text = cells(page(made))
    assert "Not proved: nothing ran" in text
    assert "2,400 instructions, predicted" in text
    assert "those of the source (int8 TFLite)" in text
    assert "accuracy: none, nothing ran" in text


def test_memory_adds_up() -> None:
    parts = region_parts({"arena": 300, "stack": 100}, 1000)
    assert [(part.kind, part.bytes, part.percent) for part in parts] == [
        ("arena", 300, 30.0), ("stack", 100, 10.0), ("free", 600, 60.0)
    ]  # fmt: skip
    assert percent(5, 0) == 0.0
    assert percent(float("inf"), 2) == 0.0
    assert percent(-5, 2) == 0.0
    low, high = arena_boxes(report())
    assert (low.x, low.y, low.height, high.y) == (0.0, 160.0, 160.0, 0.0)
    assert low.width == pytest.approx(2 * high.x)


def test_what_was_refused() -> None:
    text = cells(page(report()))
    assert "What was refused, and why alternative why not stem instead head too many" in text
    assert "more bits for one of 1 layers alternative why not stem instead head too many" in text
    assert "Nothing is known of alternatives" in page(report(refused=[]))


def test_the_stack_of_every_function() -> None:
    text = cells(page(report()))
    line = (
        "stack of an inference: at most 176 B (stem 88 + head 88), and what these take, which were compiled elsewhere"
    )
    assert line in text
    assert "stem 88 176" in text
    assert "head 88 88" in text
    nothing = report()
    memory = nothing.memory.model_copy(update={"run_stack": None})
    assert "worst case: not computed" in page(nothing.model_copy(update={"memory": memory}))


def test_names_are_text(tmp_path: Path) -> None:
    text = page(report(HOSTILE), times(HOSTILE, port=SCRIPT), SCRIPT)
    assert "<script" not in text
    assert "<img" not in text
    assert "49" not in re.findall(r"</bdi>(\d+)", text)
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert text == write_page(tmp_path, report(HOSTILE), times(HOSTILE, port=SCRIPT), SCRIPT).read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
@pytest.mark.parametrize("names", [("stem", "head"), HOSTILE], ids=["plain", "hostile"])
def test_the_page_in_a_browser(browser: Any, tmp_path: Path, width: int, scheme: str, names: tuple[str, ...]) -> None:
    path = write_page(tmp_path, report(names), times(names, port=names[0]))
    seen = SimpleNamespace(requests=[], console=[], dialogs=[])
    opened = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    opened.on("request", lambda request: seen.requests.append(request.url))
    opened.on("console", lambda message: seen.console.append(message.text))
    opened.on("dialog", lambda dialog: seen.dialogs.append(dialog.message))
    opened.goto(path.as_uri())
    opened.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert seen.requests == [path.as_uri()]
    assert not seen.console
    assert not seen.dialogs
    assert opened.evaluate("window.hacked") is None
    assert opened.evaluate("document.querySelectorAll('script, img, [onmouseover]').length") == 0
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    # Long names scroll in themselves: no row is higher than a few lines.
    assert opened.evaluate("Math.max(...Array.from(document.querySelectorAll('tr'), r => r.clientHeight))") < 160
    assert opened.evaluate(BROKEN_CELLS) == []
    assert opened.evaluate("document.querySelectorAll('svg rect').length") == len(names)
    widths = opened.evaluate("Array.from(document.querySelectorAll('.map .network'), s => s.clientWidth)")
    assert widths[0] > 0.03 * min(width, 1000)
    shown = opened.inner_text("body")
    for expected in (names[0], "2.000 ms", "The arena over time", "measured(serial)"):
        assert expected in shown
    picture = np.asarray(Image.open(io.BytesIO(opened.screenshot(full_page=True))).convert("L"))
    assert picture.std() > 10  # not a blank page
    opened.close()

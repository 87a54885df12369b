"""Write docs/boards/NAME.md for every shipped board.

python tools/board_pages.py
"""

from pathlib import Path

from tapc.flash.plan import INSTALL
from tapc.hardware.board import Board, board_names, load_board

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "boards"
WHAT = {
    "flash": "flash",
    "ram": "RAM",
    "external_flash": "external flash",
    "external_ram": "external RAM",
}
PLAYED = {
    "qemu": "QEMU, as a twin: the same objects at the simulated machine's addresses",
    "unicorn": "Unicorn, the flashed image at the board's addresses, with its clocks and UART modelled",
    "rp2040js": "rp2040js, the flashed bytes, boot loader and PLL included",
}


def size(count: int) -> str:
    """Return bytes as KiB or MiB."""
    return f"{count >> 20} MiB" if count % (1 << 20) == 0 else f"{count >> 10} KiB"


def port(board: Board) -> str:
    """Return an example of its serial port."""
    return "/dev/ttyUSB0" if board.support is not None and "adapter" in board.support.uart else "/dev/ttyACM0"


def page(board: Board) -> str:
    """Return a board's page."""
    support, probe = board.support, board.probe
    lines = [
        f"# `{board.name}`",
        "",
        f"{board.description}. Core `{board.core}`, {board.clocks.cpu_hz / 1e6:g} MHz.",
        "",
    ]
    lines += ["| memory | kind | from | size | holds |", "|---|---|---|---|---|"]
    for region in board.memory:
        row = (region.name, WHAT[region.kind], f"0x{region.origin:08X}", size(region.size), ", ".join(region.holds))
        lines.append(f"| {' | '.join(row)} |")
    if board.npu is not None:
        npu = board.npu
        lines += [
            "",
            "## NPU",
            "",
            f"`{npu.accelerator}` at {npu.clock_hz / 1e6:g} MHz, at most {npu.arena_bytes:,} bytes of activations",
        ]
        ports = [
            f"{port.kind} ({port.region}) at {port.clock_scale:g} of the port's bandwidth"
            for port in (npu.sram, npu.flash)
        ]
        lines[-1] += f"; {', '.join(ports)}."
        lines += ["", f"    tapc npu build/resnet8-stm32h7 --board {board.name}"]
    lines += ["", "## Flash it", ""]
    if probe is None:
        lines.append("No tool is listed for it.")
    else:
        lines.append(f"Probe: {probe.kind}. Tools, the first that is installed is taken:")
        lines += ["", *(f"- {tool}{f' (`{INSTALL[tool]}`)' if tool in INSTALL else ''}" for tool in probe.tools)]
        if probe.uf2 is not None:
            lines.append(f"  - without a probe: hold BOOTSEL while you plug it in; drive `{probe.uf2.volume}`")
        lines += ["", f"    tapc flash build/resnet8-{board.name}"]
    lines += ["", "## Measure it", ""]
    if support is None:
        lines.append("Its firmware does not speak: its file has no `[support]`.")
    else:
        lines += [
            f"{support.uart}. 115200 baud, 8N1.",
            "",
            f"    tapc measure build/resnet8-{board.name} --port {port(board)}",
        ]
        lines += ["", f"Clock and UART: `boards/support/{support.source}`."]
    lines += ["", "## Without the board", ""]
    for name in board.simulators:
        kind, _, machine = name.partition(":")
        what = f"QEMU's machine `{machine}` runs the flashed image" if machine else PLAYED.get(kind, kind)
        lines.append(f"- `--device {name}`: {what}")
    return "\n".join([*lines, ""])


def pages() -> dict[str, str]:
    """Return the page of each board by its file's name."""
    boards = [load_board(name) for name in board_names()]
    return {f"{board.name}.md": page(board) for board in boards}


def main() -> None:
    """Write them all."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.md"):
        old.unlink()
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

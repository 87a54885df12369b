"""Files that let a CI service prove a build: GitHub workflows, and what Renode runs."""

import shlex
import zlib
from pathlib import Path, PurePosixPath

from tapc.base.errors import OutputError, UsageError
from tapc.base.files import write_whole
from tapc.base.templates import text_environment
from tapc.device import device_for
from tapc.device.dialog import CHUNK
from tapc.device.speaking import SpeakingImage
from tapc.device.verify import device_inputs, sequences
from tapc.flow.rerun import Build, library_prefix, open_build
from tapc.hardware.board import Board, load_board
from tapc.hardware.target import Target, load_target
from tapc.kernels.packing import pack_activations
from tapc.lower.codes import apart, random_codes

_TEMPLATES = Path(__file__).parent / "templates"
_ROW = 32  # bytes of output that the firmware puts into a line
_SAMPLES = 20
WORKFLOWS = PurePosixPath(".github/workflows")


def ci_files(folder: Path, board_name: str | None = None, *, qemu: bool, renode: bool, seed: int = 0) -> dict[str, str]:
    """Return files, by their path from the root of the user's repository.

    Parameters
    ----------
    folder : Path
        The build, by the path that it has in that repository.
    board_name : str, optional
        Name or file of the board, where the build's own is not found by its name.
    qemu, renode : bool
        Which simulators.
    seed : int
        Of the sample that is sent in Renode.

    Raises
    ------
    DataError
        The folder holds no finished build, or its firmware does not speak.
    UsageError
        Renode has no model of the board, or the build's path leaves the repository.
    """
    build = open_build(folder)
    board = load_board(board_name or build.board)
    if folder.is_absolute() or ".." in folder.parts:
        raise UsageError(f"{folder}: give the build's path from the root of your repository, and call tapc ci there")
    path = PurePosixPath(folder.as_posix())
    files: dict[str, str] = {}
    target = load_target(board.core)
    if qemu:
        machine = next((name for name in board.simulators if name.startswith("qemu:")), "")
        run = f"tapc run {shlex.quote(str(path))} --samples {_SAMPLES}"
        commands = [run, f"{run} --device {machine}"] if machine else [run]
        package = "qemu-system-misc" if target.arch.startswith("rv") else "qemu-system-arm"
        text = _render("qemu.yml", name=build.name, commands=commands, package=package)
        files[str(WORKFLOWS / f"{path.name}-qemu.yml")] = text
    if renode:
        files |= _renode(build, board, target, path, seed)
    return files


def _renode(build: Build, board: Board, target: Target, path: PurePosixPath, seed: int) -> dict[str, str]:
    if board.renode is None:
        raise UsageError(f"board {board.name}: its file names no platform of Renode's ([renode])")
    image = device_for(target, "serial:none", board=board).load(build)
    assert isinstance(image, SpeakingImage)
    network = build.lowered()
    codes = random_codes(network.program, 1, seed)
    data = device_inputs(network, codes)[0].tobytes()
    program = network.program
    outputs = apart(program, program.outputs, sequences(network, codes, 1)[1])
    packed = [
        pack_activations(part, program.tensors[name].bits) for name, part in zip(program.outputs, outputs, strict=True)
    ]
    expected = b"".join(part.tobytes() for part in packed)
    robot = _render(
        "firmware.robot",
        prefix=library_prefix(build.folder),
        board=board.name,
        digest=image.digest,
        renode=board.renode,
        bytes=len(data),
        load=_rows(data, CHUNK),
        output=_rows(expected, _ROW),
        crc=f"{zlib.crc32(expected):08x}",
    )
    workflow = _render("renode.yml", name=build.name, robot=path / "firmware.robot")
    return {
        str(path / "firmware.resc"): _render("firmware.resc", board=board.name, renode=board.renode),
        str(path / "firmware.robot"): robot,
        str(WORKFLOWS / f"{path.name}-renode.yml"): workflow,
    }


def _rows(data: bytes, count: int) -> list[str]:
    return [data[start : start + count].hex() for start in range(0, len(data), count)]


def _render(template: str, **values: object) -> str:
    return text_environment(_TEMPLATES).get_template(f"{template}.j2").render(**values)


def write_ci_files(files: dict[str, str], root: Path, *, replace: bool = False) -> list[Path]:
    """Write files below a folder; those that are there already and differ are kept unless told otherwise.

    Raises
    ------
    UsageError
        A file is there, and differs.
    OutputError
        A file cannot be written.
    """
    places = {root / name: text for name, text in files.items()}
    try:
        for place, text in places.items():
            if not replace and place.exists() and place.read_text(encoding="utf-8", errors="replace") != text:
                raise UsageError(f"{place} exists and differs; --replace writes it anew")
        for place, text in places.items():
            place.parent.mkdir(parents=True, exist_ok=True)
            write_whole(place, text)
    except OSError as error:
        raise OutputError(f"a file of CI cannot be written below {root}: {error}") from error
    return list(places)

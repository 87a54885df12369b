"""The host's side of the protocol: whatever a line or a board does wrong is one clear error."""

import zlib

import pytest

from device.lines import Line
from tapc.base.errors import DataError, ToolError
from tapc.device.dialog import CHUNK, Dialog, Info, check_board

READY = b"m-ready\r\n"
INFO = {
    "protocol": "2",
    "board": "pico",
    "model": "net",
    "digest": "0123456789abcdef",
    "hz": "125000000",
    "rated-hz": "125000000",
    "counter": "systick",
    "input-bytes": "70",
    "output-bytes": "3",
    "steps": "2",
    "keeps-input": "1",
}


class Board:
    """What a sound board answers; `spoil` changes an answer by its command."""

    def __init__(self, **spoil: bytes) -> None:
        self.data, self.spoil, self.info = b"", spoil, dict(INFO)

    def __call__(self, command: str) -> bytes:
        word = command.replace(" ", "_")
        if word in self.spoil:
            return self.spoil[word]
        return self.answer(command) + READY

    def answer(self, command: str) -> bytes:
        if command.startswith("db load"):
            self.data = b""
        elif command.startswith("db "):
            self.data += bytes.fromhex(command[3:])
            if len(self.data) >= 70:
                return f"m-load-done\r\nm-tapc-crc-input-[{zlib.crc32(self.data):08x}]\r\n".encode()
        elif command == "tapc info":
            return "".join(f"m-tapc-{name}-[{value}]\r\n" for name, value in self.info.items()).encode()
        elif command == "tapc crc":
            return b"m-tapc-crc-image-[0000beef]\r\n"
        elif command.startswith("tapc run"):
            lines = "m-tapc-cycles-[120]\r\nm-tapc-cycles-[110]\r\nm-tapc-output-[0102]\r\nm-tapc-output-[ff]\r\n"
            return f"{lines}m-tapc-crc-output-[{zlib.crc32(bytes([1, 2, 255])):08x}]\r\nm-tapc-stack-[64]\r\n".encode()
        elif command == "tapc layers":
            return b"m-tapc-layer-[0,50,00000001]\r\nm-tapc-layer-[1,70,000000ff]\r\n"
        return b""


def test_a_sound_board() -> None:
    line = Line(Board())
    dialog = Dialog(line)
    dialog.connect()
    info = dialog.info()
    assert (info.board, info.hz, info.steps, info.keeps_input) == ("pico", 125_000_000, 2, True)
    dialog.load(bytes(range(70)))
    sent = [command for command in line.commands if command.startswith("db ")]
    assert sent[0] == "db load 70"
    assert [len(command) for command in sent[1:]] == [3 + 2 * CHUNK, 3 + 2 * CHUNK, 3 + 2 * 8]
    assert dialog.checksums() == {"image": 0xBEEF}
    inference = dialog.infer(2)
    assert (inference.output, inference.cycles, inference.stack) == (bytes([1, 2, 255]), (120, 110), 64)
    assert [(layer.cycles, layer.crc) for layer in dialog.layers()] == [(50, 1), (70, 255)]


@pytest.mark.parametrize(
    ("spoil", "command", "message"),
    [
        ({"tapc_info": b"m-init-done\r\nm-ready\r\n"}, "info", r"the board was reset while it did 'tapc'"),
        ({"tapc_info": b"\r\ne-[Fault]\r\n"}, "info", "the firmware faulted on the board"),
        ({"tapc_info": b"e-[Command]\r\nm-ready\r\n"}, "info", r"the board refused 'tapc info': Command"),
        ({"tapc_info": b"hello\r\nm-ready\r\n"}, "info", r"no firmware of tapc's, or the line loses bytes"),
        ({"tapc_info": b"m-tapc-protocol-[9]\r\nm-ready\r\n"}, "info", "speaks version 9 of the protocol"),
        ({"tapc_run_1": b"m-tapc-output-[01]\r\nm-ready\r\n"}, "infer", "an output did not arrive whole"),
        ({"tapc_run_1": b"m-tapc-output-[0x]\r\nm-ready\r\n"}, "infer", r"'0x' is no hexadecimal number"),
        ({"tapc_layers": b"m-tapc-layer-[1,5,00000001]\r\nm-ready\r\n"}, "layers", "a layer's line is missing"),
        ({"tapc_layers": b"m-tapc-layer-[0,x,00000001]\r\nm-ready\r\n"}, "layers", "'x' is no number"),
        ({"tapc_crc": b"m-tapc-crc-inp"}, "checksums", r"did not answer 'tapc crc' within 60 s"),
    ],
)
def test_what_a_line_loses(spoil: dict[str, bytes], command: str, message: str) -> None:
    dialog = Dialog(Line(Board(**spoil)))
    with pytest.raises(ToolError, match=message):
        getattr(dialog, command)()


def test_an_input_that_arrives_the_second_time() -> None:
    board = Board()
    lost = iter([b"m-load-done\r\nm-tapc-crc-input-[00000000]\r\nm-ready\r\n"])

    def answer(command: str) -> bytes:
        said = board(command)
        return next(lost, said) if b"m-load-done" in said else said

    line = Line(answer)
    Dialog(line).load(bytes(70))
    assert line.commands.count("db load 70") == 2


def test_an_input_that_never_arrives() -> None:
    board = Board()

    def answer(command: str) -> bytes:
        board(command)
        return READY  # as if the last line were lost

    with pytest.raises(ToolError, match="the line loses bytes: 3 times the input did not arrive as it was sent"):
        Dialog(Line(answer)).load(bytes(70))


def test_nothing_answers() -> None:
    with pytest.raises(ToolError, match=r"no board answers: nothing came within 0\.01 s. Is the firmware flashed"):
        Dialog(Line(lambda _: b"")).connect(0.01)
    with pytest.raises(ToolError, match="what came is not of this protocol"):
        Dialog(Line(lambda _: b"AT+OK\r\n")).connect(0.01)


def test_another_image() -> None:
    values = {name.replace("-", "_"): int(v) for name, v in INFO.items() if v.isdigit() and name not in ("digest",)}
    for name in ("protocol", "keeps_input"):
        values.pop(name)
    info = Info(board="pico", model="net", digest="aa", counter="dwt", keeps_input=True, **values)
    check_board(info, board="pico", digest="aa", where="COM1")
    with pytest.raises(DataError, match="the board at COM1 runs firmware for 'pico', not for 'stm32h7'"):
        check_board(info, board="stm32h7", digest="aa", where="COM1")
    with pytest.raises(DataError, match=r"runs another image \(model 'net', digest aa; wanted bb\): flash this build"):
        check_board(info, board="pico", digest="bb", where="COM1")

"""Structural mutants: inputs that are well-formed on the surface and odd beneath."""

# ruff: noqa: E501

import io
import json
import pickle
import struct
import zipfile
from typing import Any

import numpy as np
from numpy.random import Generator

from fuzz.sources import CALLABLE, archive, picture, saved

HUGE = (0, -1, 1 << 31, 1 << 40, 1 << 62)
ODD_TEXT = (
    "",
    "[/red]\\[/x]",
    "\x1b[31m\x07",
    'a"b',
    "a\\",
    "<b>&",
    "*/",
    "\n#define x",
    "n" * 400,
    "ü€\u202e",
    "../../x",
)
ODD_NAMES = (
    "\\[/red].onnx",
    "a\x1b[31m.onnx",
    'a"b.onnx',
    "a\nb.onnx",
    "-x.onnx",
    "ü.onnx",
    "n" * 200 + ".onnx",
    "net",
    ".onnx",
)
ODD_KEYS = ('"\\\\[/red]"', '"\\u001b[31m"', '""', "schema", "a.b.c", '"' + "k" * 500 + '"')
ODD_VALUES = (
    "0", "-1", "1e400", "nan", "inf", "4294967295", "0xFFFFF000", "9" * 5000, "9" * 25, '""', '"[/red]"', '"\\u001b[2J"', "[]",
    "{}", "true", "[" * 3000, "[1, 2", "1979-05-27", '"x', '"4096T"', '"²K"', "{ bytes_per_cycle = 0 }", '"../../etc/passwd"',
)  # fmt: skip
ODD_ARGUMENTS = (
    "", "-", "--", ".", "..", "/", "²", "9" * 400, "-1", "0", "1e999", "nan", "inf", "\x1b[31m", "\\[/red]", "[/red]", "n" * 5000,
    "\udcff", "1,2,3", ",", "1,-3,8,8", "1,0,8,8", "1,3,99999999,99999999", "/dev/null", "/dev/full", "/proc/self/mem", "64K",
    "net.onnx", "d.npz", "random", "w4a8", "%s%n", "$(id)", "../../x", "a.toml", "none.py:f", "resnet8:x", "2,4,8", "4", "é",
)  # fmt: skip
OPTIONS = (
    "--board", "--data", "--test-data", "--weights", "--input-shape", "--pixel-scale", "--mean", "--std", "-o", "--wbits", "--abits",
    "--target-bits", "--flash", "--ram", "--latency", "--bops", "--proxy", "--allocator", "--pin", "--overrides", "--rounding",
    "--calibration", "--eval", "--seed", "--json", "--set", "--samples", "--stage", "--train", "--epochs", "--rate", "--metric",
    "--prefix", "--quiet", "--version", "--report", "--resume",
)  # fmt: skip
ODD_SHAPES = ("1,3,8", "3,8,8", "1,3,0,8", "1,3,9999,9999", "2,3,8,8", "1", "1,3,8,8,8", "1,4,8,8")
CALLABLES = (
    CALLABLE,
    "make = 7",
    "def make(): raise KeyboardInterrupt",
    "def make(): raise SystemExit(0)",
    "def make(): raise ValueError('[/red]\\x1b[31m')",
    "def make(): return 7",
    "def make(x): return x",
    "raise SystemExit(3)",
    "import nothing_of_that_name",
    "def make(:",
    "",
    "\0",
    "class Odd(Exception):\n    def __str__(self): raise ValueError\ndef make(): raise Odd",
    "def make():\n    return make()",
    "import torch\ndef make(): return torch.nn.Sequential()",
    "import torch\ndef make(): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 0))",
    "import torch\ndef make(): return torch.nn.LSTM(8, 8)",
    "import torch\nclass N(torch.nn.Module):\n    def forward(self, x): return {'a': x}\ndef make(): return N()",
    "import torch\nclass N(torch.nn.Module):\n    def forward(self, x): return x.sum().item()\ndef make(): return N()",
    "import torch\nclass N(torch.nn.Module):\n    def forward(self, x): raise KeyboardInterrupt\ndef make(): return N()",
    "import torch\ndef make(): return torch.nn.Linear(8, 8).double()",
    "import torch\ndef make():\n    m = torch.nn.Conv2d(3, 4, 3)\n    m.weight.data.fill_(float('nan'))\n    return m",
    "import torch\nclass N(torch.nn.Module):\n    input_shape = (1, 'a')\n    def forward(self, x): return x\ndef make(): return N()",
)
PROXIES = (
    "def score(layers): return [1.0 for _ in layers]",
    "def score(layers): return []",
    "def score(layers): return [float('nan')] * len(layers)",
    "def score(layers): return 'x'",
    "def score(layers): return [10 ** 5000] * len(layers)",
    "def score(layers):\n    while True: pass",
    "def score(layers): return score(layers)",
    "def score(layers): raise ValueError('[/red]\\x1b[31m')",
    "def score(layers): return open('/etc/passwd').read()",
    "import os\ndef score(layers): return os.listdir('/')",
    "def score(layers): return [0] * 10 ** 9",
    "def score(layers): return ().__class__.__bases__",
    "def score(:",
    "score = 7",
    "",
    "def score(layers): return " + "(" * 300 + "1" + ")" * 300,
    "def score(layers): return [1.0 for _ in layers]\ndef allocate(scores, layers, target): return [3] * len(layers)",
)


def arrays(rng: Generator) -> bytes:
    """Return an npz of odd arrays."""
    x = rng.normal(0, 1, (12, 3, 8, 8)).astype(np.float32)
    y: Any = rng.integers(0, 4, 12)
    given: dict[str, Any] = {"x": x, "y": y}
    match int(rng.integers(22)):
        case 0:
            given["x"] = x.astype(
                str(rng.choice(["f2", "f8", "i1", "u1", "i8", "u8", "c8", "?", "U8", "S8", "M8[s]", "V4"]))
            )
        case 1:
            given["y"] = np.array(["cat", "[/red]", "\x1b[31m", ""] * 3)
        case 2:
            given["y"] = y.astype(float) + 0.5
        case 3:
            given["y"] = np.where(y > 1, np.nan, y)
        case 4:
            given["y"] = y - 2
        case 5:
            given["y"] = y * 10**12
        case 6:
            given["x"] = np.where(x > 2, rng.choice([np.nan, np.inf]), x)
        case 7:
            given["x"] = np.float32(3)
        case 8:
            given["y"] = np.int64(3)
        case 9:
            given["x"] = x[: int(rng.integers(0, 2))]
        case 10:
            given["y"] = y[:5]
        case 11:
            given["x"] = x.reshape(12, -1)[:, : int(rng.integers(0, 192))]
        case 12:
            given["x"] = np.array([{"a": 1}] * 12, object)
        case 13:
            given["scale"] = rng.choice([0.0, -1.0, np.nan, np.inf]) if rng.random() < 0.5 else np.ones((3, 3))
        case 14:
            given = {"images": x, "labels": y, "[/red]": x}
        case 15:
            given = {}
        case 16:
            given["y"] = np.eye(4)[y % 4]
        case 17:
            return _claims(rng)
        case 18:
            return _bomb("x.npy")
        case 19:
            return archive({"x.npy": b"", "y.npy": pickle.dumps([1, 2])})
        case 20:
            return _flagged(saved(**given), rng)
        case _:
            given["x"] = np.zeros((2, 3, 8, 8), np.float32) if rng.random() < 0.5 else np.zeros((0, 3, 8, 8))
    try:
        return saved(**given)
    except ValueError:
        return b""


def _header(shape: str, dtype: str = "<f4") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def _claims(rng: Generator) -> bytes:
    shape = str(
        rng.choice(["(10**14,)", "(99999999999999, 3, 8, 8)", "(-1, 3)", "(2, 'a')", "(1 << 99,)", "__import__('os')"])
    )
    return archive({"x.npy": _header(shape) + bytes(64), "y.npy": _header("(12,)", "<i8") + bytes(96)})


def _bomb(name: str, size: int = 1 << 30) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file, file.open(name, "w") as member:
        if name.endswith(".npy"):
            member.write(_header(f"({size // 768}, 3, 8, 8)"))
        block = bytes(1 << 20)
        for _ in range(size >> 20 >> 3):
            member.write(block)
    return stream.getvalue()


def _flagged(data: bytes, rng: Generator) -> bytes:
    """Return a zip file whose members claim encryption or another compression."""
    out = bytearray(data)
    at = out.find(b"PK\x01\x02")
    while at >= 0:
        if rng.random() < 0.5:
            out[at + 8] |= 1
        else:
            out[at + 10] = int(rng.choice([1, 9, 12, 14, 93, 99]))
        at = out.find(b"PK\x01\x02", at + 4)
    return bytes(out)


def array_file(rng: Generator) -> bytes:
    """Return an odd .npy file."""
    shape = str(
        rng.choice(["(10**14,)", "(12, 3, 8, 8)", "()", "(0,)", "(2, 3)", "(12, 192)", "('a',)", "(" * 90 + ")" * 90])
    )
    dtype = str(rng.choice(["<f4", "<f8", "|O", "|S4", "<U2", "<c8", "|V8", "<M8[s]", "[/red]", "<f4" * 50]))
    return _header(shape, dtype) + rng.bytes(int(rng.choice([0, 100, 9216, 20000])))


def rows(text: str, rng: Generator) -> bytes:
    """Return an odd table."""
    lines = text.splitlines()
    at = int(rng.integers(len(lines)))
    cells = lines[at].split(",")
    match int(rng.integers(12)):
        case 0:
            cells[0] = str(rng.choice(["nan", "inf", "1e999", "x", "", '"', "0x10", "٣", "[/red]", "9" * 5000]))
        case 1:
            cells[-1] = str(rng.choice(["cat", "-1", "1.5", "999999999999", "\x1b[31m", ""]))
        case 2:
            cells.pop()
        case 3:
            lines.insert(0, ",".join(f"c{i}" for i in range(len(cells))))
        case 4:
            lines = [line.replace(",", ";") for line in lines]
        case 5:
            return text.encode("utf-16")
        case 6:
            return ("x," * 200_000).encode()
        case 7:
            return b"\xef\xbb\xbf" + text.encode()
        case 8:
            return ('"' + text).encode()
        case 9:
            lines = lines[:1]
        case 10:
            lines = [""] * 50
        case _:
            lines = [line.rpartition(",")[0] for line in lines]
    if at < len(lines) and int(rng.integers(2)) and len(lines) > 1:
        lines[at] = ",".join(cells)
    return "\n".join(lines).encode("utf-8")


def eps() -> bytes:
    """A PostScript file: opening it as a picture starts an interpreter."""
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(ran) (w) file closefile\nshowpage\n"


def large_png() -> bytes:
    """A small PNG file that claims 60,000 x 60,000 pixels."""
    whole = bytearray(picture())
    whole[16:24] = struct.pack(">II", 60_000, 60_000)
    import zlib

    whole[29:33] = struct.pack(">I", zlib.crc32(bytes(whole[12:29])))
    return bytes(whole)


def pictures_archive(rng: Generator) -> bytes:
    """Return a zip file of pictures in which something is odd."""
    content = {f"class{i % 4}/{i}.png": picture(seed=i) for i in range(8)}
    match int(rng.integers(16)):
        case 0:
            content["class0/e.png"] = eps()
        case 1:
            content["class0/l.png"] = large_png()
        case 2:
            content = {f"../../class{i % 4}/{i}.png": picture(seed=i) for i in range(8)}
        case 3:
            content = {f"/class{i % 4}/{i}.png": picture(seed=i) for i in range(8)}
        case 4:
            content["[/red]\\[/x]\x1b[31m/a.png"] = picture()
        case 5:
            content["__MACOSX/class0/._a.png"] = b"junk"
            content["class0/.DS_Store"] = b"junk"
        case 6:
            content |= {"class1/a.png": picture(str(rng.choice(["GIF", "TIFF", "BMP", "JPEG", "WEBP"])))}
        case 7:
            content["class0/empty.png"] = b""
        case 8:
            content = {}
        case 9:
            content = {"a.txt": b"x"}
        case 10:
            content = dict(list(content.items())[: int(rng.integers(1, 3))])
        case 11:
            return _bomb("class0/a.png")
        case 12:
            return _flagged(archive(content), rng)
        case 13:
            content = {"n" * 300 + f"/{i}.png": picture(seed=i) for i in range(4)}
        case 14:
            content |= {f"class{i}/x.png": picture() for i in range(4, 40)}
        case _:
            content["inner.zip"] = archive(content)
    return archive(content)


class _Runs:
    def __reduce__(self) -> Any:
        return (eval, ("open('ran', 'w').close()",))


def state_dict(rng: Generator) -> bytes:
    """Return an odd file of weights."""
    import torch

    good = {
        "0.weight": torch.zeros(4, 3, 3, 3),
        "0.bias": torch.zeros(4),
        "3.weight": torch.zeros(4, 144),
        "3.bias": torch.zeros(4),
    }
    odd: Any = [
        {1: torch.zeros(1)}, [], 7, None, "x", {}, {"0.weight": 7}, good | {"0.weight": torch.zeros(4, 3, 3, 2)},
        good | {"0.weight": torch.full((4, 3, 3, 3), float("nan"))}, good | {"[/red]\x1b[31m": torch.zeros(1)},
        {"state_dict": good}, {"model": good}, good | {"0.weight": torch.zeros(4, 3, 3, 3, dtype=torch.complex64)},
        good | {"0.weight": torch.zeros(4, 3, 3, 3).to_sparse()}, _Runs(), good | {"0.bias": torch.zeros(4, dtype=torch.int64)},
    ]  # fmt: skip
    which = int(rng.integers(len(odd) + 3))
    if which >= len(odd):
        return (pickle.dumps(_Runs()), pickle.dumps({"0.weight": [1]}), b"")[which - len(odd)]
    stream = io.BytesIO()
    torch.save(odd[which], stream, _use_new_zipfile_serialization=bool(rng.integers(2)))
    return stream.getvalue()


def report(data: bytes, rng: Generator) -> bytes:
    """Return a report with some values replaced."""
    content = json.loads(data)
    odd: list[Any] = [
        None,
        0,
        -1,
        1e308,
        10**400,
        "",
        "[/red]\\[/x]",
        "\x1b[31m",
        "../../etc",
        "/etc/passwd",
        [],
        {},
        True,
        [[1]],
    ]
    for _ in range(int(rng.integers(1, 4))):
        place: Any = content
        while isinstance(place, dict | list) and place:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = keys[int(rng.integers(len(keys)))]
            if not isinstance(place[key], dict | list) or not place[key] or rng.random() < 0.3:
                if rng.random() < 0.2:
                    del place[key]
                else:
                    place[key] = odd[int(rng.integers(len(odd)))]
                break
            place = place[key]
    return json.dumps(content).encode()

"""Prefixes, identifiers, and C text that holds whatever a name holds."""

import ctypes
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapc.base.errors import DataError, UsageError
from tapc.lower.ctext import c_comment, c_float, c_string
from tapc.lower.names import Names, check_prefix, default_prefix, identifier, names_in


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("resnet8", "resnet8"),
        ("KWS-Net v2.1", "kws_net_v2_1"),
        ("mobilenetv1-0.25", "mobilenetv1_0_25"),
        ("2024_imu", "net_2024_imu"),
        ("int", "net_int"),
        ("Class", "net_class"),  # C++ includes the header
        ("string", "net_string"),  # #include <string.h> would find the network
        ("m", "net_m"),  # target_link_libraries(... m)
        ("test", "net_test"),
        ("main", "net_main"),
        ("tapc", "net_tapc"),  # tapc_output
        ("__init__", "init"),
        ("网络", "network"),
        ("", "network"),
        ("a*/b", "a_b"),
        ("é", "network"),
        ("x" * 300, "x" * 40),
    ],
)
def test_default_prefix(name: str, prefix: str) -> None:
    assert default_prefix(name) == prefix


@given(st.text(max_size=60))
def test_a_default_prefix_is_one_that_a_user_may_give(name: str) -> None:
    prefix = default_prefix(name)
    check_prefix(prefix)
    assert re.fullmatch(r"[a-z][a-z0-9_]*", prefix)


@pytest.mark.parametrize(
    "prefix", ["", "1net", "my net", "a-b", "_net", "é", "int", "INT", "String", "tapc", "a\n", "x" * 41, "../x"]
)
def test_prefixes_that_cannot_be(prefix: str) -> None:
    with pytest.raises(UsageError, match="prefix"):
        check_prefix(prefix)


@given(st.text(max_size=60))
def test_layers_become_ascii_identifiers(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_]{1,40}", identifier(name))


def test_names() -> None:
    names = Names("Net2")
    assert names.symbol("run") == "Net2_run"
    assert names.macro("STEPS") == "NET2_STEPS"
    assert (names.file(".h"), names.file("kernels.c")) == ("Net2.h", "Net2_kernels.c")
    assert names.constant("w", 3, "conv/1") == "Net2_w_3_conv_1"


def test_a_folder_tells_its_names(tmp_path: Path) -> None:
    for name in ("kws.h", "kws.c", "kws_steps.h"):
        (tmp_path / name).touch()
    assert names_in(tmp_path) == Names("kws")
    (tmp_path / "kws.c").unlink()
    with pytest.raises(DataError, match=r"kws\.c is missing"):
        names_in(tmp_path)
    (tmp_path / "other_steps.h").touch()
    with pytest.raises(DataError, match="has 2"):
        names_in(tmp_path)


STRTOF = ctypes.CDLL(None).strtof
STRTOF.restype, STRTOF.argtypes = ctypes.c_float, (ctypes.c_char_p, ctypes.c_void_p)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_float_literals_are_exact(value: float) -> None:
    literal = c_float(value)
    assert re.fullmatch(r"-?(\d+\.\d*|\d+(\.\d*)?e[+-]\d+)f", literal)
    digits = literal.removesuffix("f")
    read = STRTOF(digits.encode(), None)
    assert np.float32(read).tobytes() == np.float32(value).tobytes()
    # And from the definition: no other float32 is nearer to the decimal number.
    distance = abs(Fraction(digits) - Fraction(value))
    with np.errstate(over="ignore"):
        beside = [np.nextafter(np.float32(value), np.float32(end)) for end in (-np.inf, np.inf)]
    assert all(distance < abs(Fraction(digits) - Fraction(float(b))) for b in beside if np.isfinite(b))


@given(st.text(max_size=40))
def test_strings_give_the_text_back(text: str) -> None:
    literal = c_string(text)
    assert re.fullmatch(r'"(?:[^"\\?\x00-\x1f\x7f-\U0010ffff]|\\[0-7]{3})*"', literal)
    content = re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8)]), literal[1:-1].encode())
    assert content.decode("utf-8", "surrogatepass") == text


def test_a_file_name_that_is_no_utf8() -> None:
    assert c_string(b"\xffnet".decode("utf-8", "surrogateescape")) == '"\\377net"'


@given(st.text(max_size=40) | st.text("*/\\?\n\u202e", max_size=20))
def test_comments_stay_comments(text: str) -> None:
    comment = c_comment(text)
    assert "*/" not in comment
    assert "/*" not in comment
    assert comment.isascii()
    assert comment.isprintable()

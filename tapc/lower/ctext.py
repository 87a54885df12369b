"""Text in C: literals, strings and comments that hold whatever a name holds and stay what they are."""

import unicodedata

import numpy as np


def c_float(value: float) -> str:
    """Return a decimal C literal that is exactly this float32."""
    text = f"{float(np.float32(value)):.9g}"
    return f"{text}f" if any(mark in text for mark in ".en") else f"{text}.0f"


def c_string(text: str) -> str:
    """Return a C string literal: bytes of UTF-8, without trigraphs."""
    escaped = "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\?' else f"\\{byte:03o}"
        for byte in text.encode("utf-8", "surrogateescape" if _escaped(text) else "surrogatepass")
    )
    return f'"{escaped}"'


def _escaped(text: str) -> bool:
    """Whether all surrogates stand for bytes of a file name that is no UTF-8."""
    return all(0xDC80 <= ord(character) <= 0xDCFF for character in text if 0xD800 <= ord(character) <= 0xDFFF)


def c_comment(text: str) -> str:
    """Return text that can neither end a comment nor reach over its line."""
    printable = plain(text).encode("ascii", "backslashreplace").decode("ascii")
    return printable.replace("*/", "* /").replace("/*", "/ *").replace("??/", "? ?/").rstrip("\\")


def plain(text: str) -> str:
    """Return text on one line, with control and format characters spelled out."""
    return "".join(
        character
        if unicodedata.category(character)[0] != "C" and character not in "\u2028\u2029"
        else character.encode("ascii", "backslashreplace").decode("ascii")
        if ord(character) > 127
        else f"\\x{ord(character):02x}"
        for character in text
    )

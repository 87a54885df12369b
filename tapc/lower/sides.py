"""What a C library calls the inputs and outputs of its network."""

from collections.abc import Sequence
from dataclasses import dataclass

from tapc.ir.decoding import Detections
from tapc.ir.program import Program, Tensor
from tapc.lower.names import Names, identifier


@dataclass(frozen=True)
class Side:
    """An input or output.

    Attributes
    ----------
    kind : {"input", "output"}
    title : str
        What comments call it: "input", or "input 1, 'audio'" of several.
    tensor : Tensor
    key : str
        Its tensor in the program.
    macro : str
        What the names of its macros begin with: "KWS_INPUT", "KWS_INPUT_AUDIO".
    function : str
        Returns its memory: "kws_input", "kws_input_audio".
    convert : str
        "kws_quantize" or "kws_dequantize", with the name of one of several.
    argmax : str
        The function that returns the largest of its values; empty where they are no classes.
    labelled : bool
        Its classes have names.
    decoded : bool
        It holds detections, which are no codes of values.
    """

    kind: str
    title: str
    tensor: Tensor
    key: str
    macro: str
    function: str
    convert: str
    argmax: str
    labelled: bool
    decoded: bool = False

    @property
    def c_type(self) -> str:
        """Type of its elements in C."""
        return {16: "int16_t", 32: "int32_t"}.get(self.tensor.bits, "int8_t")

    @property
    def elements(self) -> str:
        """How many elements it has, in C."""
        wide = self.tensor.bits > 8
        return f"({self.macro}_BYTES / {self.tensor.bits // 8})" if wide else f"{self.macro}_BYTES"


def sides(program: Program, names: Names, labels: Sequence[str]) -> tuple[list[Side], list[Side]]:
    """Return inputs and outputs.

    Parameters
    ----------
    program : Program
    names : Names
    labels : sequence of str
        Names of the classes; they belong to the one output that has as many.
    """
    classes = [_classes(program.tensors[key]) for key in program.results]
    labelled = classes.index(len(labels)) if labels and classes.count(len(labels)) == 1 else None
    found: list[list[Side]] = []
    for kind, keys, given, convert in (
        ("input", program.given, program.input_names, "quantize"),
        ("output", program.results, program.output_names, "dequantize"),
    ):
        own, given = [], given[: len(keys)]  # states have no names in C
        words = _words([*(given or (program.tensors[key].name for key in keys))])
        for index, (key, word) in enumerate(zip(keys, words, strict=True)):
            tail = f"_{word}" if word else ""
            output = kind == "output"
            own.append(
                Side(
                    kind,
                    f"{kind} {index}, {(given or keys)[index]!r}" if word else kind,
                    program.tensors[key],
                    key,
                    names.macro(f"{kind}{tail}".upper()),
                    names.symbol(f"{kind}{tail}"),
                    names.symbol(f"{convert}{tail}"),
                    names.symbol(f"argmax{tail}") if output and classes[index] > 1 else "",
                    output and labelled == index,
                    isinstance(program.tensors[key], Detections),
                )
            )
        found.append(own)
    return found[0], found[1]


def _classes(t: Tensor) -> int:
    return t.shape[2] if t.shape[:2] == (1, 1) else 1


def _words(names: Sequence[str]) -> list[str]:
    """Return the part of a C identifier that tells each name; empty where there is one."""
    if len(names) == 1:
        return [""]
    words: list[str] = []
    for name in names:
        stem = word = identifier(name).lower()
        number = 2
        while word in words:
            word, number = f"{stem}_{number}", number + 1
        words.append(word)
    return words

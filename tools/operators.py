"""Print docs/operators.md: the operators, as they register themselves.

python tools/operators.py > docs/operators.md
"""

import sys

from tapc.graph.rules import Rule, rules

HEAD = """# Operators

What a canonical graph ([frontend](frontend.md#the-canonical-graph)) may hold. Each is one file of `tapc/operators/`,
which brings its meaning in integers, its kernels and its tests ([adding one](../CONTRIBUTING.md#an-operator)); this
table is what they say of themselves (`python tools/operators.py`). "Bits" are those of the activations that its kernels
take; a `0 ... 1` is a range that is fixed, not calibrated.

| ONNX | in | what | bits | its output | TFLite |
|---|---|---|---|---|---|"""


def row(name: str, rule: Rule) -> str:
    """Return an operator's line."""
    module = rule.lower.__module__
    text = (sys.modules[module].__doc__ or "").strip().splitlines()[0].rstrip(".")
    output = "own range"
    if rule.output is not None:
        output = f"{rule.output[0]:g} ... {rule.output[1]:g}"
    elif rule.repeats:
        output = "scale of its input"
    elif rule.activation:
        output = "range narrowed; part of the operator before it where that clamps"
    elif rule.arranges:
        output = "none: only orders elements"
    if rule.joins:
        output += ", bits of its operands"
    if rule.clamped:
        output += ", clamped by a Relu or Clip behind it"
    tflite = f"`{rule.tflite.kind}`" if rule.tflite is not None else ""
    place = module.removeprefix("tapc.operators.")
    bits = ("8" if rule.only_8_bits else "4, 8") + (", 16" if rule.wide else "")
    return f"| {name} | `{place}` | {text} | {bits} | {output} | {tflite} |"


if __name__ == "__main__":
    print("\n".join([HEAD, *(row(name, rule) for name, rule in rules().items())]))

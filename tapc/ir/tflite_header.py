"""A header that registers a TFLite file's operators with TFLite-Micro."""

import json
from collections import Counter
from typing import Any

_WORDS = {"matmul": "MatMul", "padv2": "PadV2"}
"""Parts of TFLite-Micro's names that do not follow from those of the schema."""


def header_of(blob: bytes, name: str) -> str:
    """Return the header of a file, with its inputs and outputs in comments."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(blob, 0)
    graph, names = model.subgraphs[0], {v: k for k, v in vars(schema.BuiltinOperator).items()}
    kinds = Counter(names[model.operatorCodes[own.opcodeIndex].builtinCode] for own in graph.operators)
    ends = [
        f"// {kind} {number} {_described(graph.tensors[index])}"
        for kind, indices in (("input", graph.inputs), ("output", graph.outputs))
        for number, index in enumerate(indices)
    ]
    return "\n".join([
        f"// {name}: {len(blob):,} bytes", *ends,
        f"// {', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))}",
        '#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"', "",
        f"using Operators = tflite::MicroMutableOpResolver<{len(kinds)}>;", "",
        "inline TfLiteStatus RegisterOperators(Operators& resolver) {",
        *(f"  TF_LITE_ENSURE_STATUS(resolver.{_method(kind)}());" for kind in sorted(kinds)),
        "  return kTfLiteOk;", "}",
    ])  # fmt: skip


def _described(tensor: Any) -> str:
    own = tensor.quantization
    name = json.dumps(bytes(tensor.name).decode("utf-8", errors="replace"))
    shape = "x".join(str(int(extent)) for extent in tensor.shape)
    return f"{name}: int8 {shape}, value = {float(own.scale[0]):.9g} * (code {-int(own.zeroPoint[0]):+d})"


def _method(kind: str) -> str:
    """Return the name of the method that adds an operator: AddConv2D of CONV_2D."""
    words = (_WORDS.get(word, word.capitalize()) for word in kind.lower().split("_"))
    return f"Add{''.join(words).replace('2d', '2D')}"

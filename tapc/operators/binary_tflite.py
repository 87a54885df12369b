"""Operators of two operands in a TFLite file."""

from tapc.ir.tflite import Point, TfliteFile, write
from tapc.operators.binary import Binary

_WRITTEN = {"add": ("ADD", 2), "sub": ("SUB", 2), "mul": ("MUL", 2)}


@write.register
def _write(op: Binary, file: TfliteFile) -> None:
    clamp = file.clamped(op.output, op.low, op.high, fused=op.operation in _WRITTEN)
    sides, y = op.operands(file.program.tensors), file.program.tensors[op.output]
    operands = [file.tensor(name) for name in op.inputs]
    if op.fixed is not None:
        codes = file.constant(op.fixed.codes[None], op.fixed.scale, zero=op.fixed.zero)
        operands.insert(0 if op.fixed.first else 1, codes)
    if op.operation in _WRITTEN:
        kind, version = _WRITTEN[op.operation]
        table = f"{kind.capitalize()}Options"
        file.node(kind, operands, clamp.output, table, version, fusedActivationFunction=clamp.activation)
    else:
        # Codes are compared as they are: operands come to the scale of the result before.
        for at, side in enumerate(sides):
            if side.quantization != y.quantization:
                scaled = file.between(side.shape, Point(y.scale, y.zero))
                file.node("QUANTIZE", [operands[at]], scaled, "QuantizeOptions", 2)
                operands[at] = scaled
        file.node(f"{op.operation.upper()}IMUM", operands, clamp.output, "MaximumMinimumOptions", 2)
    file.finish(clamp)

"""A command stream as text."""

from collections.abc import Iterator, Sequence

from tapc.npu.commands import Operation, Parameter, Payload, is_payload, payload_of

_KINDS = {
    Operation.POOL: ("maximum", "average", "sum"),
    Operation.ELEMENTWISE: ("mul", "add", "sub", "min", "max", "lrelu", "abs", "clz", "shr", "shl"),
}


def lines(words: Sequence[int]) -> Iterator[str]:
    """Yield a line for each register that is set and each operation, with the offset of its word in bytes."""
    at = 0
    while at < len(words):
        word, begin = int(words[at]), 4 * at
        code, parameter = word & 0x3FF, word >> 16
        at += 1
        if is_payload(word):
            value = payload_of(Payload(code), parameter, int(words[at]))
            at += 1
            yield f"{begin:6}  {Payload(code).name} = {value}"
        elif code >= min(Parameter):
            signed = parameter - 0x10000 if parameter & 0x8000 else parameter
            yield f"{begin:6}  {Parameter(code).name} = {signed}"
        else:
            operation = Operation(code)
            kinds = _KINDS.get(operation)
            what = kinds[parameter] if kinds is not None and parameter < len(kinds) else ""
            yield f"{begin:6}  {' '.join([f'-> {operation.name}', what]).rstrip()}"
            if operation == Operation.STOP:
                return

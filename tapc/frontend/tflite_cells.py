"""Recognizes LSTM, GRU and RNN in what a step of a loop computes, whatever operators it is written with.

Results of a step are sums of products of gates and states; a gate is a function of a sum of products by matrices.
Both are brought to one form, and compared with those of the layers.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.frontend.tflite_trace import Node, Numbers, Traced

Array = NDArray[Any]
_SUMS = {"ADD": 1.0, "SUB": -1.0}
_FEW = 16
"""Terms of a sum of products; more are none of a layer's."""
Key = tuple[bytes, ...]


class _UnknownError(Exception):
    """It is none of the layers."""


@dataclass(frozen=True, eq=False)
class Cell:
    """A recurrent layer, its gates as ONNX orders them.

    Attributes
    ----------
    kind : {"LSTM", "GRU", "RNN"}
    input, hidden : ndarray of float32, shape (gates * units, inputs) and (gates * units, units)
    bias : ndarray of float32, shape (2 * gates * units,)
        Of the input and of the hidden state.
    linear : bool
        A GRU multiplies its reset gate with the product of the hidden state.
    activation : {"Tanh", "Relu"}
        Of an RNN.
    columns : ndarray of int64, shape (inputs,)
        The elements that it reads in the first step.
    result : ndarray of int64, shape (units,)
        The elements of its hidden state behind the first step.
    states : tuple of int
        The loop's values that are its hidden state and cell state.
    """

    kind: str
    input: Array
    hidden: Array
    bias: Array
    linear: bool
    activation: str
    columns: Numbers
    result: Numbers
    states: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class _Sum:
    """matrix @ elements + bias."""

    columns: Numbers
    matrix: Array
    bias: Array

    def of(self, columns: Numbers) -> Array:
        """Return the matrix of these columns, zeros for those that it has not."""
        found = np.zeros((len(self.matrix), len(columns)))
        places = {column: place for place, column in enumerate(columns.tolist())}
        for place, column in enumerate(self.columns.tolist()):
            if column in places:
                found[:, places[column]] += self.matrix[:, place]
        return found


def cells(step: Traced, read: set[int], limit: int) -> list[Cell] | str:
    """Return the layers of which a step is made; what is in the way where it is more than layers.

    Parameters
    ----------
    step : Traced
    read : set of int
        The loop's values of which the step computes something: states.
    limit : int
        Numbers below are elements from outside.
    """
    m, found = _Matcher(step, limit), []
    left = set(read)
    while left:
        try:
            own = m.next_cell(left)
        except _UnknownError as error:
            return f"a step of it is none of an LSTM, GRU or SimpleRNN ({error})"
        left -= set(own.states)
        m.results.append(own.result)
        found.append(own)
    if not found:
        return "it has no state"
    return found


class _Matcher:
    def __init__(self, step: Traced, limit: int) -> None:
        self.step, self.limit = step, limit
        self.starts = np.array([node.start for node in step.nodes])
        self.results: list[Numbers] = []
        """Of layers that are recognized already: what others read."""

    def next_cell(self, left: set[int]) -> Cell:
        """Return a layer of which all inputs are known."""
        why: _UnknownError | None = None
        for p in sorted(left):
            try:
                return self._cell(p, left)
            except _UnknownError as error:
                why = why or error
        raise why if why is not None else _UnknownError("no state")

    def _cell(self, p: int, left: set[int]) -> Cell:
        after, before = self.step.ends[p].reshape(-1), self.step.starts[p].reshape(-1)
        if len(after) != len(before):
            raise _UnknownError("a state changes its shape")
        terms = self.products(after)
        factors = {len(key) for key in terms}
        if len(terms) == 1 and factors == {1} and self._kind(after) in ("TANH", "RELU"):
            return self._rnn(p, after, before)
        if len(terms) == 1 and factors == {2}:
            return self._lstm(p, after, before, terms, left)
        return self._gru(p, after, before, terms)

    def _rnn(self, p: int, after: Numbers, before: Numbers) -> Cell:
        activation = "Relu" if self._kind(after) == "RELU" else "Tanh"
        (total,) = self._operands(after)
        return self._made("RNN", [self.sum(total)], p, after, before, (p,), activation=activation)

    def _lstm(self, p: int, after: Numbers, before: Numbers, terms: dict[Key, Array], left: set[int]) -> Cell:
        _ones(terms)
        output, shown = self._pair(next(iter(terms)), "LOGISTIC", "TANH")
        (inner,) = self._operands(shown)
        for q in sorted(left - {p}):
            if np.array_equal(self.step.ends[q].reshape(-1), inner):
                break
        else:
            raise _UnknownError("what its output is a tanh of is no state")
        cell = self.step.starts[q].reshape(-1)
        parts = self.products(inner)
        _ones(parts)
        kept = [key for key in parts if cell.tobytes() in key]
        added = [key for key in parts if key not in kept]
        if len(kept) != 1 or len(added) != 1 or len(kept[0]) != 2 or len(added[0]) != 2:
            raise _UnknownError("its cell state is no sum of two products")
        forget = _other(kept[0], cell)
        if self._kind(forget) != "LOGISTIC":
            raise _UnknownError("its forget gate is no sigmoid")
        given, new = self._pair(added[0], "LOGISTIC", "TANH")
        gates = [self.sum(self._operands(gate)[0]) for gate in (given, output, forget, new)]
        return self._made("LSTM", gates, p, after, before, (p, q))

    def _gru(self, p: int, after: Numbers, before: Numbers, terms: dict[Key, Array]) -> Cell:
        h = before.tobytes()
        rest = {key: value for key, value in terms.items() if h not in key}
        single: list[Key] = [key for key in rest if len(key) == 1] or [key for key in rest if len(key) == 2]
        if len(terms) != 3 or len(single) != 1:
            raise _UnknownError("its state is no mean of the last and a new one")
        new = next((own for own in map(_numbers, single[0]) if self._kind(own) == "TANH"), None)
        gates = {own for key in terms for own in key} - {h} - ({new.tobytes()} if new is not None else set())
        if new is None or len(gates) != 1 or self._kind(update := _numbers(gates.pop())) != "LOGISTIC":
            raise _UnknownError("its state is no mean of the last and a new one by a sigmoid")
        n, z = new.tobytes(), update.tobytes()
        forms: tuple[tuple[float, dict[Key, float]], ...] = (
            (1.0, {(h, z): 1.0, (n,): 1.0, (n, z): -1.0}),
            (-1.0, {(h,): 1.0, (h, z): -1.0, (n, z): 1.0}),
        )
        sign = next((sign for sign, known in forms if _same(terms, known)), None)
        if sign is None:
            raise _UnknownError("its state is no mean of the last and a new one")
        kept = self.sum(self._operands(update)[0])
        kept = _Sum(kept.columns, sign * kept.matrix, sign * kept.bias)  # 1 - sigmoid(a) = sigmoid(-a)
        total = self.sum(self._operands(new)[0])
        inner = np.array([c for c in total.columns.tolist() if c >= self.limit and self._kind(np.array([c])) == "MUL"])
        if not len(inner):
            raise _UnknownError("its new state has no reset gate")
        return self._reset(p, after, before, kept, total, inner.astype(np.int64))

    def _reset(self, p: int, after: Numbers, before: Numbers, kept: _Sum, total: _Sum, inner: Numbers) -> Cell:
        """Return a GRU of its update gate, and of the sum of its new state, in which `inner` are products."""
        a, b = self._operands(inner)
        reset, other = (a, b) if self._kind(a) == "LOGISTIC" else (b, a)
        if self._kind(reset) != "LOGISTIC":
            raise _UnknownError("its reset gate is no sigmoid")
        matrix, units, linear = total.of(inner), len(before), not np.isin(other, before).all()
        if len(inner) != units:
            raise _UnknownError("its reset gate has other units")
        outer = _Sum(
            total.columns[~np.isin(total.columns, inner)], total.matrix[:, ~np.isin(total.columns, inner)], total.bias
        )
        if linear:
            order = np.argmax(matrix, axis=1)
            if not np.array_equal(matrix[:, order], np.eye(units)):
                raise _UnknownError("its reset gate multiplies parts of other units")
            product = self.sum(other[order])
            if not np.isin(product.columns, before).all():
                raise _UnknownError("its reset gate multiplies more than its state")
            hidden, bias = product.of(before), product.bias
        else:
            order = np.argsort(other)
            if not np.array_equal(other[order], before):
                raise _UnknownError("its reset gate multiplies parts of other units")
            hidden, bias = matrix[:, order], np.zeros(units)
        gates = [kept, self.sum(self._operands(reset[order])[0]), outer]
        made = self._made("GRU", gates, p, after, before, (p,), linear=linear)
        if made.hidden[2 * units :].any():
            raise _UnknownError("its new state reads the last one past its reset gate")
        weights, biases = made.hidden.copy(), made.bias.copy()
        weights[2 * units :], biases[5 * units :] = hidden, bias
        return Cell(made.kind, made.input, weights, biases, linear, made.activation, made.columns, after, (p,))

    def _made(
        self, kind: str, gates: list[_Sum], p: int, after: Numbers, before: Numbers, states: tuple[int, ...], *,
        linear: bool = False, activation: str = "",
    ) -> Cell:  # fmt: skip
        columns = np.unique(np.concatenate([gate.columns for gate in gates]))
        given = columns[~np.isin(columns, before)]
        known = (given >= 0) & (given < self.limit)
        for result in self.results:
            known |= np.isin(given, result)
        if not known.all():
            raise _UnknownError("its gates read what is neither its input nor its state")
        if not len(given):
            raise _UnknownError("it reads no input")
        if any(len(gate.matrix) != len(before) for gate in gates):
            raise _UnknownError("its gates have other units than its state")
        weights, hidden = (np.concatenate([gate.of(own) for gate in gates]) for own in (given, before))
        bias = np.concatenate([*(gate.bias for gate in gates), np.zeros(len(hidden))])
        weights, hidden, bias = (array.astype(np.float32) for array in (weights, hidden, bias))
        return Cell(kind, weights, hidden, bias, linear, activation, given, after, states)

    def _pair(self, key: Key, *kinds: str) -> tuple[Numbers, ...]:
        """Return the factors of these kinds."""
        found = {self._kind(own): own for own in map(_numbers, key)}
        if set(found) != set(kinds):
            raise _UnknownError(f"a product of {' and '.join(sorted(found)) or 'nothing'}")
        return tuple(found[kind] for kind in kinds)

    def products(self, elements: Numbers) -> dict[Key, Array]:
        """Return elements as a sum of products of others: the factors, in order, and the number before each."""
        node, place = self._node(elements)
        size = len(elements)
        if (
            node is None
            or node.kind not in (*_SUMS, "MUL", "NEG")
            or any(np.isin(elements, r).all() for r in self.results)
        ):
            return {(elements.tobytes(),): np.ones(size)}
        if node.kind == "NEG":
            return {key: -value for key, value in self.products(self._at(node, 0, place)).items()}
        sides: list[dict[Key, Array]] = [
            {(): self._value(node, side, place)} if node.fixed[side] else self.products(self._at(node, side, place))
            for side in (0, 1)
        ]
        left, right = sides
        found: dict[Key, Array] = dict(left) if node.kind in _SUMS else {}
        if node.kind in _SUMS:
            for key, value in right.items():
                found[key] = found.get(key, np.zeros(size)) + _SUMS[node.kind] * value
        else:
            for key, value in left.items():
                for other, factor in right.items():
                    both = tuple(sorted((*key, *other)))
                    found[both] = found.get(both, np.zeros(size)) + value * factor
        found = {key: value for key, value in found.items() if value.any()}
        if len(found) > _FEW:
            raise _UnknownError("sums of many products")
        return found

    def sum(self, elements: Numbers) -> _Sum:
        """Return elements as products by a matrix of elements that are no sums."""
        total: dict[int, Array] = {}
        bias = np.zeros(len(elements))
        for rows, node, place in self._groups(elements):
            for column, vector in self._linear(elements[rows], node, place, bias, rows).items():
                total.setdefault(column, np.zeros(len(elements)))[rows] += vector
        columns = np.array(sorted(total), np.int64)
        matrix = np.stack([total[c] for c in columns.tolist()], axis=1) if total else np.zeros((len(elements), 0))
        return _Sum(columns, matrix, bias)

    def _linear(self, own: Numbers, node: Node | None, place: Numbers, bias: Array, rows: Array) -> dict[int, Array]:
        kind = "" if node is None or any(np.isin(own, r).any() for r in self.results) else node.kind
        parts: list[tuple[float | Array, Numbers]] = []
        if node is not None and kind in _SUMS:
            for side, sign in ((0, 1.0), (1, _SUMS[kind])):
                if node.fixed[side]:
                    bias[rows] += sign * self._value(node, side, place)
                else:
                    parts.append((sign, self._at(node, side, place)))
        elif node is not None and kind == "MUL" and any(node.fixed):
            side = node.fixed.index(True)
            if not all(node.fixed):
                parts.append((self._value(node, side, place), self._at(node, 1 - side, place)))
        elif node is not None and kind == "FULLY_CONNECTED" and node.fixed[:2] == (False, True) and all(node.fixed[2:]):
            return self._dense(node, place, bias, rows)
        if not parts:
            return {column: (own == column).astype(float) for column in own.tolist()}
        found: dict[int, Array] = {}
        for factor, elements in parts:
            inner = self.sum(elements)
            bias[rows] += factor * inner.bias
            for column, vector in zip(inner.columns.tolist(), inner.matrix.T, strict=True):
                found[column] = found.get(column, np.zeros(len(own))) + factor * vector
        return found

    def _dense(self, node: Node, place: Numbers, bias: Array, rows: Array) -> dict[int, Array]:
        weights = np.asarray(node.operands[1], np.float64)
        batch = np.asarray(node.operands[0], np.int64).reshape(-1, weights.shape[1])
        which, outputs = np.divmod(place, len(weights))
        found: dict[int, Array] = {}
        for row in np.unique(which).tolist():
            inner, own = self.sum(batch[row]), which == row
            matrix = weights[outputs[own]]
            added = matrix @ inner.bias
            if len(node.operands) > 2:
                added = added + np.asarray(node.operands[2], np.float64).reshape(-1)[outputs[own]]
            bias[rows[own]] += added
            product = matrix @ inner.matrix
            for column, vector in zip(inner.columns.tolist(), product.T, strict=True):
                found.setdefault(column, np.zeros(len(place)))[own] += vector
        return found

    def _groups(self, elements: Numbers) -> list[tuple[Array, Node | None, Numbers]]:
        """Return the elements of each operator: where they are, the operator, and their places in its result."""
        which = self._which(elements)
        found: list[tuple[Array, Node | None, Numbers]] = []
        for number in np.unique(which).tolist():
            rows = np.flatnonzero(which == number)
            node = self.step.nodes[number] if number >= 0 else None
            found.append((rows, node, elements[rows] - (node.start if node else 0)))
        return found

    def _which(self, elements: Numbers) -> Array:
        which = np.searchsorted(self.starts, elements, side="right") - 1
        ends = np.array([node.start + node.size for node in self.step.nodes])
        return np.where((which >= 0) & (elements < ends[np.maximum(which, 0)]), which, -1)

    def _node(self, elements: Numbers) -> tuple[Node | None, Numbers]:
        """Return the operator that computes all these elements, and their places in its result."""
        which = np.unique(self._which(elements)).tolist()
        if len(which) != 1 or which[0] < 0:
            return None, elements
        node = self.step.nodes[which[0]]
        return node, elements - node.start

    def _kind(self, elements: Numbers) -> str:
        node = self._node(elements)[0]
        return "" if node is None else node.kind

    def _operands(self, elements: Numbers) -> tuple[Numbers, ...]:
        """Return what an element-wise operator computes elements from."""
        node, place = self._node(elements)
        if node is None or any(node.fixed):
            raise _UnknownError("a gate is computed from constants")
        return tuple(self._at(node, side, place) for side in range(len(node.operands)))

    def _at(self, node: Node, side: int, place: Numbers) -> Numbers:
        """Return the elements of an operand that give those of the result, by broadcasting."""
        return np.asarray(self._spread(node, side, place), np.int64)

    def _value(self, node: Node, side: int, place: Numbers) -> Array:
        return np.asarray(self._spread(node, side, place), np.float64)

    def _spread(self, node: Node, side: int, place: Numbers) -> Array:
        shape = np.broadcast_shapes(*(np.shape(operand) for operand in node.operands))
        if int(np.prod(shape)) != node.size:
            raise _UnknownError("operands of other shapes")
        spread: Array = np.broadcast_to(node.operands[side], shape).reshape(-1)[place]
        return spread


def _numbers(key: bytes) -> Numbers:
    return np.frombuffer(key, np.int64)


def _other(key: Key, one: Numbers) -> Numbers:
    """Return the factor beside another."""
    return _numbers(next(own for own in key if own != one.tobytes()))


def _ones(terms: dict[Key, Array]) -> None:
    if not all((value == 1).all() for value in terms.values()):
        raise _UnknownError("its products have factors")


def _same(terms: dict[Key, Array], known: dict[Key, float]) -> bool:
    """Whether a sum of products is a known one."""
    wanted = {tuple(sorted(key)): value for key, value in known.items()}
    return wanted.keys() == terms.keys() and all((terms[key] == value).all() for key, value in wanted.items())

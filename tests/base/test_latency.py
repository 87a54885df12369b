"""Budgets of an inference as people write them."""

import pytest

import tapc
from tapc.base.errors import UsageError
from tapc.base.latency import latency_of


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("5ms", 5.0, "ms"),
        ("0.5 ms", 0.5, "ms"),
        ("300us", 0.3, "ms"),
        ("2s", 2000.0, "ms"),
        ("1.2Mcycles", 1.2e6, "cycles"),
        ("800kcycles", 8e5, "cycles"),
        ("9Minstructions", 9e6, "instructions"),
        ("9m", 9e6, "instructions"),
        ("123456", 123456.0, "instructions"),
        ("1e6", 1e6, "instructions"),
    ],
)
def test_what_is_understood(text: str, amount: float, unit: str) -> None:
    found = latency_of(text)
    assert found.amount == pytest.approx(amount, rel=1e-12)
    assert found.unit == unit
    assert latency_of(str(found)) == found


@pytest.mark.parametrize("text", ["", "0", "-1ms", "5 minutes", "ms", "1e999", "nan", "5msms", "Mcycles", "5 %"])
def test_what_is_not(text: str) -> None:
    with pytest.raises(UsageError, match=r"option latency: .* is not a number of instructions, or a time such as"):
        tapc.Options(latency=text)  # type: ignore[arg-type]

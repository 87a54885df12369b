"""Answers of a record that are drawn by operator."""

import gzip
from pathlib import Path

import pytest

from tapc.base.errors import DataError
from tapc.search.candidate import Background
from tapc.search.controllers import OPERATORS
from tapc.search.generators import GeneratorOptions, make_generator
from tapc.search.llm import Message, Reply, Request
from tapc.search.llm.record import Recorder
from tapc.search.options import SearchOptions
from tapc.search.pooled import Pooled

NOTHING = Background((), (), (), {})


class Writer:
    """Answers with code that names the question."""

    def complete(self, request: Request) -> Reply:
        code = f"def score(layers):\\n    return [1.0 for _ in layers]  # {request.key}"
        return Reply(f'{{"reasoning": "{request.operator}", "code": "{code}"}}', "writer")


@pytest.fixture
def record(tmp_path: Path) -> Path:
    plain, packed = tmp_path / "r.jsonl", tmp_path / "r.jsonl.gz"
    recorder = Recorder(Writer(), plain)
    for i, operator in enumerate(OPERATORS * 3):
        recorder.complete(Request(f"g{i // 3}s{i % 3}", (Message("user", "write"),), operator))
    recorder.complete(Request("g0s0/repair", (Message("user", "again"),), "initialization"))
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    return packed


def drawn(pool: Pooled, operator: str, seed: int) -> list[str]:
    return [pool.generate(f"g0s{i}", operator, (), NOTHING, (seed, 0, i)).code for i in range(3)]  # type: ignore[arg-type]


def test_each_answer_of_an_operator_once_and_in_an_order_by_the_seed(record: Path) -> None:
    pools = {seed: Pooled([record], 8, seed) for seed in range(6)}
    for i, operator in enumerate(OPERATORS):
        found = [drawn(pool, operator, seed) for seed, pool in pools.items()]
        assert all(sorted(own) == sorted(found[0]) and len(set(own)) == 3 for own in found)
        assert all(f"s{i}" in code and "repair" not in code for code in found[0])
        assert len(set(map(tuple, found))) > 1
        assert drawn(Pooled([record], 8, 0), operator, 0) == found[0]


def test_a_search_names_it_and_a_record_without_operators_is_refused(record: Path, tmp_path: Path) -> None:
    generator = make_generator(GeneratorOptions(llm=f"pool:{record}"), SearchOptions(), (), ())
    draft = generator.generate("g1s0", "mutation", (), NOTHING, (0, 1, 0))
    assert (draft.reasoning, draft.generator) == ("mutation", "writer")
    old = tmp_path / "old.jsonl"
    old.write_bytes(gzip.decompress(record.read_bytes()).replace(b'"operator"', b'"other"'))
    with pytest.raises(DataError, match="no answer to initialization"):
        Pooled([old], 8, 0)

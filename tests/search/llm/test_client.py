import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from search.llm.server import ChatServer
from tapc.base.cache import Store
from tapc.base.errors import UsageError
from tapc.search.llm import LLMError, LLMOptions, Message, NoAnswerError, Request, total
from tapc.search.llm.client import Client
from tapc.search.llm.record import Cached

REQUEST = Request("g0s0", (Message("system", "be brief"), Message("user", "hello")))
PRICED = "openai/gpt-4o-mini"  # $0.15 and $0.60 per million tokens


def client(server, model="openai/local", waits=None, spent=0.0, **options):
    chosen = LLMOptions(
        **{"api_base": server.url, "allow_unknown_price": True, "timeout": 1.0, "retries": 2, **options}
    )
    return Client(model, chosen, spent=spent, sleep=(waits if waits is not None else []).append)


def test_an_answer_with_its_tokens():
    with ChatServer("hi") as server:
        reply = client(server).complete(REQUEST)
    assert (reply.text, reply.prompt_tokens, reply.completion_tokens, reply.cost) == ("hi", 1000, 200, None)
    sent = server.requests[0]
    assert sent["messages"] == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]
    assert sent["temperature"] == 0.8


@pytest.mark.parametrize("failure", ["!429", "!500", "!slow", "!truncated", "!empty", "!nothing", "!closed"])
def test_a_failure_that_may_pass_is_tried_again(failure):
    waits = []
    with ChatServer(failure, "hi") as server:
        assert client(server, waits=waits).complete(REQUEST).text == "hi"
    assert len(server.requests) == 2
    assert len(waits) == 1
    assert waits[0] >= (7 if failure == "!429" else 0.75)


def test_waits_grow_and_end():
    waits = []
    with ChatServer("!500") as server, pytest.raises(NoAnswerError, match="failure 500"):
        client(server, waits=waits, retries=4).complete(REQUEST)
    assert len(server.requests) == 5
    assert all(0.75 * 2**i <= wait <= 1.25 * 2**i for i, wait in enumerate(waits))


@pytest.mark.parametrize(("failure", "advice"), [("!401", "key"), ("!404", "name")])
def test_a_failure_that_stays_is_not_tried_again(failure, advice):
    with ChatServer(failure) as server, pytest.raises(NoAnswerError, match=advice):
        client(server).complete(REQUEST)
    assert len(server.requests) == 1


def test_nobody_listens():
    with ChatServer("hi") as server:
        pass
    waits = []
    with pytest.raises(NoAnswerError, match=r"[Cc]onnection"):
        client(server, waits=waits).complete(REQUEST)
    assert len(waits) == 2


def test_the_next_model_is_asked():
    def only_second(body):
        return "from the second" if body["model"] == "second" else "!401"

    with ChatServer(only_second) as server:
        reply = client(server, fallback=("openai/second",)).complete(REQUEST)
    assert (reply.text, reply.model) == ("from the second", "second")
    assert [r["model"] for r in server.requests] == ["local", "second"]


def test_unanswered_questions_in_a_row_stop_the_search():
    with ChatServer("!500", "!500", "hi", "!500") as server:
        asked = client(server, retries=0, max_failures=3)
        for expected in (NoAnswerError, NoAnswerError, None, NoAnswerError, NoAnswerError, LLMError):
            if expected is None:
                assert asked.complete(REQUEST).text == "hi"
            else:
                with pytest.raises(expected):
                    asked.complete(REQUEST)


def test_an_answer_that_was_cut_off_says_so():
    with ChatServer("!length") as server:
        assert "cut off after 4096 tokens" in client(server).complete(REQUEST).text


def test_money_is_counted_and_capped():
    worst = (len("be briefhello") // 2 + 100) * 0.15e-6 + 1000 * 0.6e-6
    each = 1000 * 0.15e-6 + 200 * 0.6e-6
    with ChatServer("hi") as server:
        asked = client(server, PRICED, allow_unknown_price=False, max_tokens=1000, max_cost=worst + 2.5 * each)
        replies = [asked.complete(REQUEST) for _ in range(3)]
        with pytest.raises(LLMError, match=r"--max-cost .* --resume"):
            asked.complete(REQUEST)
    assert len(server.requests) == 3
    assert [r.cost for r in replies] == pytest.approx([each] * 3)
    assert asked.spent == pytest.approx(3 * each)
    assert asked.spent <= worst + 2.5 * each
    assert total(replies) == {
        "requests": 3, "prompt_tokens": 3000, "completion_tokens": 600, "cost_usd": pytest.approx(3 * each)
    }  # fmt: skip


def test_questions_at_once_keep_the_cap_and_use_it_up():
    worst = (len("be briefhello") // 2 + 100) * 0.15e-6 + 1000 * 0.6e-6
    each = 1000 * 0.15e-6 + 200 * 0.6e-6

    def late(body):
        time.sleep(0.3)
        return "hi"

    with ChatServer(late) as server, ThreadPoolExecutor(4) as pool:
        asked = client(server, PRICED, allow_unknown_price=False, max_tokens=1000, max_cost=worst + 2.5 * each)
        failures = [f.exception() for f in [pool.submit(asked.complete, REQUEST) for _ in range(4)]]
    assert [type(f) for f in failures if f is not None] == [LLMError]
    assert len(server.requests) == 3
    assert asked.spent == pytest.approx(3 * each)


def test_what_was_spent_before_counts():
    with ChatServer("hi") as server, pytest.raises(LLMError, match=r"spent \$4\.99"):
        client(server, PRICED, allow_unknown_price=False, spent=4.999).complete(REQUEST)
    assert not server.requests


def test_an_unknown_price_is_refused():
    with ChatServer("hi") as server, pytest.raises(UsageError, match="--allow-unknown-price"):
        client(server, allow_unknown_price=False)


def test_a_known_answer_is_not_asked_for_again(tmp_path):
    with ChatServer("first", "second") as server:
        for _ in range(2):
            assert Cached(client(server), Store(tmp_path), "a").complete(REQUEST).text == "first"
        assert Cached(client(server), Store(tmp_path), "b").complete(REQUEST).text == "second"
    assert len(server.requests) == 2

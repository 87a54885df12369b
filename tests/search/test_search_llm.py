"""Whole searches with a real HTTP server behind litellm, on a network that takes milliseconds."""

import json

import pytest
from click.testing import CliRunner

from search.llm.server import ChatServer
from search.made import make_up
from search.tiny import tiny_files
from tapc.base.cache import Store
from tapc.base.errors import OutputError
from tapc.cli import main
from tapc.search import GeneratorOptions, LLMOptions, Request, SearchOptions, search, stored_request
from tapc.search.llm import LLMError
from tapc.search.log import NAME, read_events

COLUMNS = (
    "output_error_2",
    "parameters",
    "macs",
    "weight_l2",
    "input_std",
    "weight_error_2",
    "output_size",
    "kernel_h",
)


def answer(column):
    code = f"def score(layers):\n    return [layer[{column!r}] for layer in layers]\n"
    return json.dumps({"name": f"by {column}", "reasoning": f"{column} matters", "code": code})


HOSTILE = json.dumps({"reasoning": "x", "code": "import os\ndef score(layers):\n    os.system('reboot')\n"})
ENDLESS = json.dumps({"reasoning": "x", "code": "def score(layers):\n    while True:\n        pass\n"})
# Generation 0: good, broken then repaired, hostile twice, late then good.  Generation 1: a mix again.
MIXED = (
    answer("output_error_2"),
    "I am sorry.", answer("parameters"),
    HOSTILE, HOSTILE,
    "!slow", answer("macs"),
    answer("weight_l2"),
    "!500", answer("output_error_2"),
    ENDLESS, "{broken",
    answer("input_std"),
)  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return tiny_files(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("tapc.search.llm.client.FIRST_WAIT", 0.01)
    monkeypatch.setattr("search.made.PAUSE", 0)
    make_up(monkeypatch.setattr)


def request(files, generations=1, **llm):
    model, data = map(str, files)
    options = SearchOptions(beta=0, generations=generations, population=4, calibration=64, configurations=60)
    chosen = LLMOptions(
        **{"allow_unknown_price": True, "timeout": 1.5, "cache": False, "retries": 1, "parallel": 1, **llm}
    )
    generator = GeneratorOptions(llm="openai/local", options=chosen)
    return Request(models=(model,), data=(data,), generator=generator, options=options)


def events_of(folder, *kinds):
    return [(e.kind, e.key, e.data) for e in read_events(folder / NAME)[0] if e.kind in kinds]


def test_a_mix_of_answers_and_its_replay(files, store, tmp_path):
    record = str(tmp_path / "record.jsonl")
    with ChatServer(*MIXED) as server:
        outcome = search(request(files, api_base=server.url, record=record), tmp_path / "run", jobs=1, store=store)
    statuses = {key: (data["status"], data["kind"]) for _, key, data in events_of(tmp_path / "run", "scored")}
    problems = {key: data["problem"] for _, key, data in events_of(tmp_path / "run", "candidate") if data["problem"]}
    assert statuses["g0s0"] == statuses["g0s1"] == statuses["g0s3"] == ("ok", "")
    assert statuses["g0s2"] == ("invalid", "forbidden")
    assert "import os is not allowed" in problems["g0s2"]
    assert statuses["g1s1"] == ("duplicate", "")
    assert "g1s2" in problems
    assert outcome.program.origin.generator == "local"
    assert outcome.program.name in {f"by {column}" for column in COLUMNS}
    usage = [data["usage"] for _, _, data in events_of(tmp_path / "run", "candidate")]
    assert sum(u["requests"] for u in usage) == len(server.requests) - 2  # a late answer and a failure count no tokens
    assert sum(u["prompt_tokens"] for u in usage) == 1000 * sum(u["requests"] for u in usage)
    assert "output_error_2" in server.requests[0]["messages"][0]["content"]

    replayed = search(request(files, replay=record), tmp_path / "again", jobs=1, store=store)
    assert (replayed.key, replayed.program) == (outcome.key, outcome.program)
    assert len(server.requests) == len(MIXED)  # nobody was asked
    kinds = ("generation", "candidate", "scored", "judged", "selection", "elsewhere", "end")
    assert events_of(tmp_path / "again", *kinds) == events_of(tmp_path / "run", *kinds)

    found = str(tmp_path / "run" / "proxy.toml")
    command = ["proxies", "score", found, "--model", str(files[0]), "--data", str(files[1]), "--json"]
    listed = CliRunner().invoke(main, command)
    assert listed.exit_code == 0, listed.output
    assert len(json.loads(listed.stdout)["layers"]) == 7


def test_questions_at_once_change_nothing_but_the_time(files, store, tmp_path):
    record = str(tmp_path / "record.jsonl")
    with ChatServer(*(answer(column) for column in COLUMNS)) as server:
        asked = request(files, api_base=server.url, record=record, parallel=4)
        outcome = search(asked, tmp_path / "run", jobs=1, store=store)
        assert len(server.requests) == 8
    kinds = ("generation", "candidate", "scored", "judged", "selection", "elsewhere", "end")
    folder = tmp_path / "again"
    again = search(request(files, replay=record, parallel=1), folder, jobs=1, store=store)
    assert (again.key, again.program) == (outcome.key, outcome.program)
    assert events_of(folder, *kinds) == events_of(tmp_path / "run", *kinds)
    keys = [key for _, key, _ in events_of(tmp_path / "run", "candidate")]
    assert keys == [f"g{t}s{slot}" for t in range(2) for slot in range(4)]
    shown = server.requests[-1]["messages"][0]["content"]
    assert "- sqnr, fitness" in shown
    assert "- error (a measurement of each layer alone: about the ceiling), fitness" in shown


def test_what_is_wrong_with_allocate_is_quoted_back(files, store, tmp_path):
    code = json.loads(answer("macs"))["code"]
    most = code + "\ndef allocate(scores, layers, target):\n    return [8 for layer in layers]\n"
    least = most.replace("8 for", "2 for")
    replies = [json.dumps({"reasoning": "x", "code": text}) for text in (code, most, least, least)]
    replies[2] = json.dumps({"reasoning": "x", "code": least.replace("'macs'", "'mac'")})
    with ChatServer(*replies) as server:
        started = request(files, generations=0, api_base=server.url)
        options = started.options.model_copy(update={"allocator": "proxy", "population": 2})
        search(started.model_copy(update={"options": options}), tmp_path / "run", jobs=1, store=store)
    said = [question["messages"][-1]["content"] for question in server.requests]
    assert "allocate" in said[1]
    assert "That answer cannot be used" in said[1]
    assert "KeyError: 'mac'" in said[3]
    assert "macs" in said[3]
    judged = {key: data["kind"] for _, key, data in events_of(tmp_path / "run", "judged")}
    assert judged == {"g0s0": "bits", "g0s1": ""}
    problems = {key: data["problem"] for _, key, data in events_of(tmp_path / "run", "candidate")}
    assert "allocate used 8.0000 bits" in problems["g0s0"]


def test_a_provider_that_refuses_stops_the_search_and_it_goes_on_later(files, store, tmp_path):
    with ChatServer(answer("macs"), "!401") as server:
        started = request(files, generations=0, api_base=server.url, max_failures=2)
        with pytest.raises(LLMError, match=r"2 questions in a row had no answer.*key.*--resume"):
            search(started, tmp_path / "run", jobs=1, store=store)
    with ChatServer(*(answer(column) for column in COLUMNS)) as server:
        stored = stored_request(tmp_path / "run")
        moved = stored.generator.options.model_copy(update={"api_base": server.url})
        resumed = stored.model_copy(update={"generator": stored.generator.model_copy(update={"options": moved})})
        outcome = search(resumed, tmp_path / "run", resume=True, jobs=1, store=store)
    keys = [key for _, key, _ in events_of(tmp_path / "run", "candidate")]
    assert keys == ["g0s0", "g0s1", "g0s2", "g0s3"]
    assert len(server.requests) == 2  # g0s0 was answered, g0s1 given up before
    assert outcome.program.name.startswith("by ")


@pytest.mark.parametrize("name", ["proxy.toml", "report.html"])
def test_a_users_file_is_not_replaced(files, store, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match=f"{name} exists"):
        search(request(files), tmp_path, jobs=1, store=store)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_the_command_line_says_what_to_do(files, tmp_path):
    model, data = map(str, files)
    base = ["search", model, "--data", data, "--board", "stm32h7", "-o", str(tmp_path / "run")]
    unknown = CliRunner().invoke(main, [*base, "--llm", "openai/local", "--api-base", "http://127.0.0.1:9/v1"])
    assert unknown.exit_code == 2
    assert "--allow-unknown-price" in unknown.stderr
    nothing = CliRunner().invoke(main, ["search", model])
    assert nothing.exit_code == 2
    assert "--resume" in nothing.stderr
    missing = CliRunner().invoke(main, ["search", "--resume", str(tmp_path / "none")])
    assert missing.exit_code == 4
    tight = ["--llm", "offline", "--latency", "1000", "--calibration", "64", "--configurations", "60", "--test", "16"]
    impossible = CliRunner().invoke(main, [*base, *tight])
    assert impossible.exit_code == 5
    assert "the smallest budget that works" in impossible.stderr
    both = CliRunner().invoke(main, ["search", model, "--resume", str(tmp_path)])
    assert both.exit_code == 2

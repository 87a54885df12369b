import gzip
import threading
import time

import pytest

from tapc.base.errors import DataError, UsageError
from tapc.search.llm import LLMError, LLMOptions, Message, Prompts, Reply, Request, language_model
from tapc.search.llm.prompts import NAMES
from tapc.search.llm.record import Files, Recorder, Replay
from tapc.search.options import SearchOptions


def request(key="g0s0", text="hello"):
    return Request(key, (Message("user", text),))


class Echo:
    def __init__(self):
        self.asked = 0

    def complete(self, request):
        self.asked += 1
        return Reply(f"{request.key} {self.asked}", "echo", 1, 2, 0.5)


def test_a_record_replays_without_asking(tmp_path):
    model = Echo()
    recorder = Recorder(model, tmp_path / "r.jsonl")
    replies = [recorder.complete(request(key)) for key in ("a", "b", "a")]
    assert model.asked == 2
    replay = Replay(tmp_path / "r.jsonl")
    assert [replay.complete(request(key)) for key in ("a", "b", "a")] == replies


def test_a_record_is_continued_after_a_kill(tmp_path):
    path = tmp_path / "r.jsonl"
    recorder = Recorder(Echo(), path)
    for key in ("a", "b"):
        recorder.complete(request(key))
    path.write_bytes(path.read_bytes()[:-30])
    model = Echo()
    recorder = Recorder(model, path)
    assert recorder.complete(request("a")).text == "a 1"
    recorder.complete(request("b"))
    assert model.asked == 1
    assert path.read_bytes().count(b"\n") == 2


def test_what_a_record_lacks_is_named(tmp_path):
    path = tmp_path / "r.jsonl"
    Recorder(Echo(), path).complete(request("a"))
    with pytest.raises(DataError, match=r"question a with another text"):
        Replay(path).complete(request("a", "other"))
    with pytest.raises(DataError, match=r"question b not at all"):
        Replay(path).complete(request("b"))
    with pytest.raises(DataError, match="No such file"):
        Replay(tmp_path / "none")
    path.write_text("{}\n")
    with pytest.raises(DataError, match="line 1 is damaged"):
        Replay(path)


def test_recording_and_replaying_exclude_each_other():
    with pytest.raises(UsageError, match="one of the two"):
        language_model("openai/x", LLMOptions(record="a", replay="b"))


def test_a_person_answers_through_files(tmp_path):
    def person():
        while not (tmp_path / "g0s0.prompt.md").is_file():
            time.sleep(0.01)
        assert "hello" in (tmp_path / "g0s0.prompt.md").read_text()
        (tmp_path / "draft").write_text("an answer")
        (tmp_path / "draft").rename(tmp_path / "g0s0.answer.md")

    thread = threading.Thread(target=person)
    thread.start()
    told = []
    files = Files(tmp_path, timeout=20, tell=told.append, poll=0.01)
    assert files.complete(request()).text == "an answer"
    thread.join()
    assert "g0s0.answer.md" in told[0]
    assert files.complete(request()).text == "an answer"  # at once, from the earlier answer
    with pytest.raises(LLMError, match=r"no answer .* --resume"):
        Files(tmp_path, timeout=0.05, poll=0.01).complete(request(text="another question"))


def context(**changes):
    from tapc.proxy.columns import columns

    member = {"name": "p1", "reasoning": "because", "code": "def score(layers): ...", "fitness": 0.81, "rho": 0.5,
              "accuracy": 0.9, "cost": 0.97, "bits": {"net": [2, 4, 8]}}  # fmt: skip
    budgets = ["at 2.5 bits 248 loses 0.05 (least measured 0.04)"]
    shown = {"name": "net", "figures": {"rho": "0.500", "accuracy": "0.800"}, "budgets": budgets}
    member |= {"networks": [shown | {"misranked": ["a is scored too high: 1 of 3"]}]}
    table = {"header": ["layer", "output_error_2"], "rows": [["a", "0.123"]], "left_out": 3}
    networks = [{"name": "net", "layers": ["a: conv"], **table}]
    more = {"theme": "bottlenecks", "known": [{"name": "k1", "fitness": 0.7, "reasoning": "is known"}],
            "tried": [{"name": "t1", "loss": 0.0123, "reasoning": "was worse"}],
            "rivals": [{"name": "error", "ceiling": True, "fitness": 0.9, "networks": [shown]}]}  # fmt: skip
    values = {"mode": "statistics", "columns": columns("statistics"), "networks": networks, "options": SearchOptions(),
              "allocates": False, "parents": [], "library": []}  # fmt: skip
    return more | values | {k: [member] * v if k in ("parents", "library") else v for k, v in changes.items()}


@pytest.mark.parametrize("library", [0, 2])
@pytest.mark.parametrize(("operator", "parents"), [("initialization", 0), ("mutation", 1), ("crossover", 2)])
def test_every_prompt_can_be_filled_in(operator, parents, library):
    system, user = Prompts.load().render(operator, context(parents=parents, library=library))
    assert (system.role, user.role) == ("system", "user")
    assert "output_error_2" in system.content
    assert "allocate" not in system.content
    assert "| a | 0.123 |" in system.content
    lost = "at 2.5 bits 248 loses 0.05 (least measured 0.04)"
    ceiling = "(a measurement of each layer alone: about the ceiling)"
    assert f"- error {ceiling}, fitness 0.9000; net: rho 0.500, accuracy 0.800, {lost}\n" in system.content
    assert "t1 (-0.0123): was worse" in user.content
    assert ("bottlenecks" in user.content) == ("k1 (0.7000)" in user.content) == (operator == "initialization")
    blocks = parents + (library if operator != "initialization" else 0)
    assert user.content.count(f"on net: rho 0.500, accuracy 0.800; {lost}\n- a is scored too high: 1 of 3\n") == blocks
    assert user.content.count("def score(layers): ...") == blocks  # crossover shows the library's code, too
    assert ("because" in user.content) == bool(parents or (library and operator != "initialization"))
    assert "{{" not in system.content + user.content


def test_prompts_follow_the_options():
    from tapc.proxy.columns import columns

    values = context(columns=columns("metadata"), mode="metadata", networks=[])
    for allocates in (False, True):
        system, _ = Prompts.load().render("initialization", values | {"allocates": allocates})
        assert "output_error_2" not in system.content
    assert "def allocate" in system.content
    assert "Your own allocate chooses" in system.content
    assert "Your own allocate" not in Prompts.load().render("initialization", context())[0].content


def test_every_slot_of_a_generation_has_another_theme(tmp_path):
    prompts = Prompts.load()
    first = [prompts.theme((0, 0, slot)) for slot in range(8)]
    assert len(set(first)) == 8
    assert first == [prompts.theme((0, 0, slot)) for slot in range(8)]
    assert first != [prompts.theme((0, 1, slot)) for slot in range(8)]
    assert first != [prompts.theme((1, 0, slot)) for slot in range(8)]
    (tmp_path / "themes.md").write_text("---\nversion: mine\n---\nNone.\n")
    with pytest.raises(DataError, match=r"themes.md: holds no line"):
        Prompts.load(tmp_path).theme((0, 0, 0))


def test_prompts_of_your_own(tmp_path):
    (tmp_path / "mutation.md").write_text("---\nversion: mine\n---\nChange {{ parents[0].name }}.\n")
    prompts = Prompts.load(tmp_path)
    assert prompts.render("mutation", context(parents=1))[1].content == "Change p1.\n"
    assert prompts.provenance["mutation"].startswith("mine ")
    assert {name: prompts.provenance[name] for name in NAMES if name != "mutation"} == {
        name: text for name, text in Prompts.load().provenance.items() if name != "mutation"
    }
    (tmp_path / "mutation.md").write_text("Change {{ nobody }}.")
    with pytest.raises(DataError, match="version"):
        Prompts.load(tmp_path)
    (tmp_path / "mutation.md").write_text("---\nversion: 2\n---\nChange {{ nobody }}.")
    with pytest.raises(DataError, match="nobody"):
        Prompts.load(tmp_path).render("mutation", context())
    with pytest.raises(DataError, match="holds none of"):
        Prompts.load(tmp_path / "empty")


def test_a_compressed_record_replays_and_is_not_written_to(tmp_path):
    plain, packed = tmp_path / "r.jsonl", tmp_path / "r.jsonl.gz"
    asked = request("a", "one")
    answer = Recorder(Echo(), plain).complete(asked)
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert Replay(packed).complete(asked) == answer
    with pytest.raises(DataError, match="gunzip"):
        Recorder(Echo(), packed)
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"r\.jsonl\.gz: "):
        Replay(packed)

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapc.search.llm import Message, NoAnswerError, ParseError, Reply, Request, ask, parse

CODE = "def score(layers):\n    return [x['macs'] for x in layers]\n"
GOOD = json.dumps({"name": "n", "reasoning": "why", "code": CODE})
REQUEST = Request("g1s2", (Message("user", "go"),))


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"Here it is:\n```json\n{GOOD}\n```\nGood luck!",
        f'<think>maybe {{"code": 1}}</think>{GOOD}',
        GOOD.replace("}", ",}"),
        json.dumps({"reasoning": "why", "code": f"```python\n{CODE}```"}),
        json.dumps({"reasoning": "why", "code": CODE.rstrip("\n").split("\n")}),
        '{"reasoning": "why", "code": "' + CODE.replace('"', '\\"') + '"}',
        f"Some prose.\n```python\n{CODE}```\n",
        f"why\n```\n{CODE}```",
    ],
)
def test_forms_that_are_understood(text):
    draft = parse(text)
    assert draft.code == CODE
    assert draft.reasoning


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("I cannot do that.", "no JSON object"),
        ('{"reasoning": "why"}', "needs"),
        ('{"reasoning": "why", "code": ""}', "text with Python code"),
        ('{"reasoning": "why", "code": 7}', "text with Python code"),
        (GOOD[:-20], "not complete"),
        ("x" * 300_000, "characters"),
    ],
)
def test_what_is_wrong_is_said(text, problem):
    with pytest.raises(ParseError, match=problem):
        parse(text)


@given(st.text(max_size=300))
def test_any_text_is_a_draft_or_a_parse_error(text):
    for candidate in (text, "{" + text + "}", f"```json\n{text}\n```", '{"code": "' + text):
        try:
            assert parse(candidate).code
        except ParseError as error:
            message = str(error)
            assert len(message) > 10


@given(st.text(min_size=1).filter(str.strip), st.text())
def test_json_comes_back_unchanged(reasoning, tail):
    code = f"def score(layers):\n    return {tail!r}\n"
    draft = parse(json.dumps({"reasoning": reasoning, "code": code}))
    assert (draft.reasoning, draft.code) == (reasoning.strip(), code)


class Answers:
    def __init__(self, *texts):
        self.texts = iter(texts)
        self.requests = []

    def complete(self, request):
        self.requests.append(request)
        text = next(self.texts)
        if text is None:
            raise NoAnswerError("nobody there")
        return Reply(text, "m", 10, 5, 0.1)


def needs_macs(code):
    return "" if "macs" in code else "it must use macs"


def test_what_is_wrong_is_quoted_back_once():
    model = Answers("sorry", GOOD)
    asked = ask(model, REQUEST, needs_macs)
    assert asked.draft.code == CODE
    first, second = model.requests
    assert (first.key, second.key) == ("g1s2", "g1s2/repair")
    assert [m.role for m in second.messages] == ["user", "assistant", "user"]
    assert second.messages[1].content == "sorry"
    assert "no JSON object" in second.messages[2].content
    assert len(asked.replies) == 2


def test_code_that_stays_wrong_remains_a_candidate():
    bad = GOOD.replace("macs", "depth")
    asked = ask(Answers(bad, bad), REQUEST, needs_macs)
    assert asked.draft.code == CODE.replace("macs", "depth")
    assert asked.problem == "it must use macs"
    assert ask(Answers("no", "no"), REQUEST, needs_macs).draft is None


def test_no_answer_is_no_draft():
    asked = ask(Answers("no", None), REQUEST, needs_macs)
    assert (asked.draft, asked.problem, len(asked.replies)) == (None, "nobody there", 1)

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tapc.base.errors import DataError
from tapc.search.fitness import VERSION
from tapc.search.log import NAME, EventLog, read_events
from tapc.search.report import summarize, write_report
from tapc.search.run import stored_request

HOSTILE = '<script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">'


def fitness(phi, rho=0.5):
    budgets = [{"budget": 2.5, "weights": "248", "loss": 0.25, "best": 0.125, "metric": 0.9}]
    network = {"network": "net", "rho": rho, "weights": [2, 4, 8], "activations": [8], "accuracy": 0.75, "cost": 0.9,
               "budgets": budgets, "figures": {"bops": 7}}  # fmt: skip
    return {"phi": phi, "rho": rho, "accuracy": 0.75, "cost": 0.9, "networks": [network]}


def candidate(operator="initialization", parents=(), code="def score(layers): ...", problem="", name="n", cost=0.01):
    usage = {"requests": 1, "prompt_tokens": 100, "completion_tokens": 10, "cost_usd": cost}
    return {"operator": operator, "parents": list(parents), "library": [], "name": name, "reasoning": f"why {name}",
            "code": code, "problem": problem, "generator": "m", "usage": usage}  # fmt: skip


def write_log(folder, finished=True, name="n", rival=0.6):
    request = {"models": ["net"], "board": "stm32h7", "options": {"cost": "instructions", "beta": 0.05}}
    start = {"request": request, "tapc": "0.1.0", "statistics": 1, "fitness": VERSION}
    net = {"name": "net", "digest": "d", "layers": ["a", "b", "c"], "configurations": 99}
    ready = {"generator": "openai/model", "prompts": {"system": "1 abc"}, "networks": [net],
             "held_out": net | {"name": "held"}, "unseen": [net | {"name": "far"}]}  # fmt: skip
    ok = {"status": "ok", "kind": "", "message": "", "scores": [[1, 2, 3]]}
    third = {"initialization": 1 / 3, "mutation": 1 / 3, "crossover": 1 / 3}
    with EventLog(folder) as log:

        def put(kind, key, data):
            log.record(kind, key, lambda: data)

        put("start", "", start)
        put("ready", "", ready)
        put("baseline", "error", {"fitness": fitness(0.9, 1.0), "problem": ""})
        put("baseline", "tap", {"fitness": fitness(rival), "problem": ""})
        put("baseline", "ompq", {"fitness": None, "problem": "no"})
        put("generation", "g0", {"probabilities": third})
        for i, phi in enumerate((0.5, 0.7, 0.6)):
            put("candidate", f"g0s{i}", candidate(name=f"{name}{i}"))
            put("scored", f"g0s{i}", ok)
            put("judged", f"g0s{i}", {"fitness": fitness(phi), "kind": "", "message": ""})
        put("candidate", "g0s3", candidate(code="", problem="no code", cost=None))
        put("generation", "g1", {"probabilities": {"initialization": 0.1, "mutation": 0.6, "crossover": 0.3}})
        put("candidate", "g1s0", candidate("crossover", ["g0s1", "g0s2"], code=f"# {HOSTILE}", name=name))
        put("scored", "g1s0", ok)
        put("judged", "g1s0", {"fitness": fitness(0.8), "kind": "", "message": ""})
        put("candidate", "g1s1", candidate("mutation", ["g1s0"]))
        put("scored", "g1s1", {"status": "duplicate", "kind": "", "message": "g1s0", "scores": [[1, 2, 3]]})
        for i, (kind, message) in enumerate([("timeout", "too long"), ("scores", "x"), ("forbidden", HOSTILE)]):
            put("candidate", f"g1s{i + 2}", candidate("mutation", ["g0s1"]))
            put("scored", f"g1s{i + 2}", {"status": "invalid", "kind": kind, "message": message, "scores": []})
        put("candidate", "g1s5", candidate())
        put("scored", "g1s5", ok)
        if finished:
            put("judged", "g1s5", {"fitness": None, "kind": "budget", "message": "too large"})
            put("elsewhere", "g1s0", {"problem": "", "networks": {"held": fitness(0.71, 0.31), "far": fitness(0.6)}})
            put("elsewhere", "g0s1", {"problem": "broken there", "networks": {}})
            put("end", "", {"winner": "g1s0"})
    return folder


def test_figures_of_a_run(tmp_path):
    s = summarize(write_log(tmp_path))
    assert s.finished
    assert s.winner.key == "g1s0"
    assert s.best_and_median == [(0, 0.7, 0.6), (1, 0.8, 0.8)]
    assert s.broken_shares == [("1-10", 0.4, {"draft": 1, "timeout": 1, "scores": 1, "forbidden": 1})]
    assert s.usage == {
        "requests": 10, "prompt_tokens": 1000, "completion_tokens": 100, "cost_usd": pytest.approx(0.09)
    }  # fmt: skip
    assert s.rival[0] == "tap"
    assert [line.key for line in s.lineage] == ["g1s0", "g0s1", "g0s2"]
    assert [(n["rho"], role) for n, role in s.networks_of_winner] == [
        (0.5, "searched"), (0.31, "held out"), (0.5, "unseen")
    ]  # fmt: skip
    assert [line.status for line in s.candidates][-2:] == ["invalid", "invalid"]
    assert s.candidates[-1].executable


def test_the_winner_stands_among_the_built_ins(tmp_path):
    s = summarize(write_log(tmp_path / "a"))
    assert [name for name, _, _ in s.ranking] == ["error", "g1s0 n", "tap", "ompq"]
    assert "fitter than every built-in" in s.verdict
    worse = summarize(write_log(tmp_path / "b", rival=0.85))
    assert [name for name, _, _ in worse.ranking][:3] == ["error", "tap", "g1s0 n"]
    assert "not better than the built-in proxy tap (0.8500)" in worse.verdict
    assert "use that one" in write_report(tmp_path / "b").read_text()


def test_a_winner_without_ancestors_has_no_picture_of_them(tmp_path):
    write_log(tmp_path)
    alone = [line for line in summarize(tmp_path).candidates if line.key == "g0s1"]
    assert "Ancestors" in write_report(tmp_path).read_text()
    path = tmp_path / "one"
    with EventLog(path) as log:
        for event in read_events(tmp_path / NAME)[0]:
            if not event.key.startswith("g1"):
                log.record(event.kind, event.key, lambda event=event: event.data)
    assert summarize(path).lineage == alone
    text = write_report(path).read_text()
    assert "Ancestors" not in text
    assert "no ancestors" in text


def test_a_run_that_is_not_finished(tmp_path):
    s = summarize(write_log(tmp_path, finished=False))
    assert not s.finished
    assert s.candidates[-1].status == "ok"
    text = write_report(tmp_path).read_text()
    assert "not finished" in text
    with pytest.raises(DataError, match="no log"):
        write_report(tmp_path / "none")


def test_the_held_out_network_decides_who_wins(tmp_path):
    path = tmp_path / "other"
    with EventLog(path) as log:
        for event in read_events(write_log(tmp_path / "a") / NAME)[0]:
            data = {"winner": "g0s1"} if event.kind == "end" else event.data
            log.record(event.kind, event.key, lambda data=data: data)
    s = summarize(path)
    assert s.winner.key == "g0s1"
    assert s.networks_of_winner[1:] == []


def test_fitness_and_what_is_elsewhere(tmp_path):
    with EventLog(tmp_path / "more") as log:
        for event in read_events(write_log(tmp_path / "a") / NAME)[0]:
            if event.kind == "elsewhere":
                continue
            log.record(event.kind, event.key, lambda event=event: event.data)
        # phi 0.5, 0.7, 0.6, 0.8 against mean rho 0.2, 0.4, 0.5, 0.3: ranks 1 3 2 4 and 1 3 4 2, 1 - 6 * 8 / 60
        for key, (one, two) in {"g0s0": (0.1, 0.3), "g0s1": (0.4, 0.4), "g0s2": (0.5, 0.5), "g1s0": (0.2, 0.4)}.items():
            networks = {"held": fitness(0.7, one), "far": fitness(0.7, two)}
            log.record("elsewhere", key, lambda networks=networks: {"problem": "", "networks": networks})
    s = summarize(tmp_path / "more")
    assert s.agreement == (4, pytest.approx(0.2))
    assert "0.20" in write_report(tmp_path / "more").read_text()
    assert summarize(tmp_path / "a").agreement is None


def test_a_log_of_the_old_fitness_is_refused(tmp_path):
    with EventLog(tmp_path) as log:
        log.record("start", "", lambda: {"request": {}, "generator": "m", "networks": []})
    for refused in (write_report, stored_request):
        with pytest.raises(DataError, match=r"of an older tapc, whose fitness ranked layers .* another -o"):
            refused(tmp_path)


BROKEN_CELLS = """
Array.from(document.querySelectorAll('td:not(.text):not(.bits)')).filter(cell => {
    const range = document.createRange();
    range.selectNodeContents(cell);
    return new Set(Array.from(range.getClientRects(), r => Math.round(r.top))).size > 1;
}).map(cell => cell.innerText)
"""


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_in_a_browser(browser, tmp_path, width, scheme):
    path = write_report(write_log(tmp_path, name=HOSTILE))
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    seen = SimpleNamespace(requests=[], console=[], dialogs=[])
    page.on("request", lambda request: seen.requests.append(request.url))
    page.on("console", lambda message: seen.console.append(message.text))
    page.on("dialog", lambda dialog: seen.dialogs.append(dialog.message))
    page.goto(path.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert [url for url in seen.requests if not url.startswith("data:")] == [path.as_uri()]
    assert not seen.console
    assert not seen.dialogs
    assert page.evaluate("window.hacked") is None
    sizes = page.evaluate(
        "Array.from(document.images, i => [i.complete, i.naturalWidth, i.getBoundingClientRect().width])"
    )
    assert len(sizes) == 5
    assert all(complete and natural > 300 and 100 < shown <= width for complete, natural, shown in sizes)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(BROKEN_CELLS) == []
    text = page.inner_text("body")
    for expected in (
        "openai/model",
        "0.8000",
        "0.310",
        "held out",
        "unseen",
        "tap",
        "timeout: 1",
        HOSTILE,
        "1000 prompt tokens",
        "$0.0900",
    ):
        assert expected in text
    picture = np.asarray(Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("L"))
    assert picture.std() > 10  # not a blank page
    page.close()

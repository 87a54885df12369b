"""Kill -9 at random instants: the resumed run must end like one that was never interrupted.

TAPC_KILLS sets how often the run is killed, each time further on.
"""

import json
import multiprocessing
import os
import random
import time
from pathlib import Path

from search.made import make_up
from search.tiny import tiny_files
from tapc.base.cache import Store
from tapc.search import GeneratorOptions, Request, SearchOptions, search, stored_request
from tapc.search.log import NAME, read_events

KILLS = int(os.environ.get("TAPC_KILLS", "2"))
# Processes that have tapc loaded, and nothing of this one's state.
FRESH = multiprocessing.get_context("forkserver")
FRESH.set_forkserver_preload([__name__])


def run(folder: Path, model: Path, data: Path, store: Path) -> None:
    """Search, or go on with a search; write how it ended beside its folder."""
    log = folder / NAME
    options = SearchOptions(beta=0, generations=2, population=3, calibration=64, configurations=60, test=20)
    generator = GeneratorOptions(llm="offline")
    request = Request(models=(str(model), "resnet8"), data=(str(data),), generator=generator, options=options)
    resume = log.is_file() and log.stat().st_size > 0
    make_up()
    outcome = search(stored_request(folder) if resume else request, folder, resume=resume, jobs=1, store=Store(store))
    population = [candidate.key for candidate in outcome.evolution.population]
    end = {"digest": outcome.digest, "winner": outcome.key, "population": population}
    folder.with_suffix(".json").write_text(json.dumps(end))


def started(folder, files, store):
    process = FRESH.Process(target=run, args=(folder, *files, store))
    process.start()
    return process


def finished(folder, files, store):
    process = started(folder, files, store)
    process.join(120)
    assert process.exitcode == 0
    return json.loads(folder.with_suffix(".json").read_text())


def kill_at(process, events, count, after):
    """Kill a search `after` seconds after its log has `count` lines."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.is_alive():
        if events.is_file() and events.read_bytes().count(b"\n") >= count:
            time.sleep(after)
            break
        time.sleep(0.002)
    process.kill()
    process.join()


def test_a_killed_search_ends_like_an_uninterrupted_one(tmp_path):
    files = tiny_files(tmp_path)
    expected = finished(tmp_path / "whole", files, tmp_path / "store")
    total = len(read_events(tmp_path / "whole" / NAME)[0])
    measured = (tmp_path / "measured").read_text().splitlines()
    assert len(set(measured)) == len(measured) >= 60
    folder, chance = tmp_path / "run", random.Random(0)
    # The first kill comes while configurations are measured, when the log has its first line.
    kills = [1, *sorted(chance.sample(range(3, total), KILLS - 1))]
    for count in kills:
        kill_at(started(folder, files, tmp_path / "another"), folder / NAME, count, chance.uniform(0.05, 0.2))
        events, _ = read_events(folder / NAME)
        assert count <= len(events) <= total
    assert events[-1].kind != "end"
    assert finished(folder, files, tmp_path / "another") == expected
    again = (tmp_path / "measured").read_text().splitlines()[len(measured) :]
    assert set(again) == set(measured)
    assert len(again) <= len(measured) + len(kills)  # what ran when it was killed is measured again, and no more
    assert read_events(folder / NAME)[0][-1].kind == "end"

"""Kill -9 at random instants: the resumed run must end like one that was never interrupted.

TAPC_KILLS sets how many instants are tried.
"""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from search.tiny import tiny_files

from tapc.search.log import NAME, read_events

KILLS = int(os.environ.get("TAPC_KILLS", "3"))
DRIVER = """
import json, sys
from pathlib import Path
from tapc.cache import Store
from tapc.search import GeneratorOptions, Request, SearchOptions, search, stored_request

folder, model, data, store = map(Path, sys.argv[1:5])
options = SearchOptions(beta=0, generations=2, population=4, calibration=64, holdout=60, test=20)
request = Request(
    models=(str(model),), board="stm32h7", data=(str(data),), generator=GeneratorOptions(llm="offline"), options=options
)
resume = (folder / "events.jsonl").is_file() and (folder / "events.jsonl").stat().st_size > 0
outcome = search(stored_request(folder) if resume else request, folder, resume=resume, jobs=1, store=Store(store))
print(json.dumps({"digest": outcome.digest, "winner": outcome.key,
                  "population": [c.key for c in outcome.evolution.population]}))
"""


def start(folder, files, store):
    command = [sys.executable, "-c", DRIVER, str(folder), *map(str, files), str(store)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, env=environment
    )


def finish(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err[-2000:]
    return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    files = tiny_files(folder)
    began = time.monotonic()
    result = finish(start(folder / "run", files, folder / "store"))
    return files, result, time.monotonic() - began


@pytest.mark.parametrize("kill", range(KILLS))
def test_a_killed_search_ends_like_an_uninterrupted_one(uninterrupted, tmp_path, kill):
    files, expected, seconds = uninterrupted
    folder = tmp_path / "run"
    process = start(folder, files, tmp_path / "store")
    # Between the first and the last event, which come after about a third of the time.
    instant = random.Random(kill).uniform(0.35, 1.0) * seconds
    try:
        process.wait(instant)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    assert finish(start(folder, files, tmp_path / "store")) == expected
    assert read_events(folder / NAME)[0][-1].kind == "end"

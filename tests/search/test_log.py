import hashlib
import json

import pytest

from tapc.base.errors import DataError, UsageError
from tapc.search.log import NAME, EventLog, read_events


def write(folder, count, resume=False, made=None):
    with EventLog(folder, resume=resume) as log:
        for i in range(count):
            log.record(
                "step", f"s{i}", lambda i=i: (made.append(i) if made is not None else None, {"value": i * 0.1})[1]
            )
        return log.digest


def test_the_digest_chains_kind_key_and_data_but_not_the_time(tmp_path):
    digest = write(tmp_path, 3)
    previous = ""
    for line in (tmp_path / NAME).read_text().splitlines():
        event = json.loads(line)
        text = json.dumps([previous, event["kind"], event["key"], event["data"]], sort_keys=True)
        previous = hashlib.sha256(text.encode()).hexdigest()
        assert event["digest"] == previous
    assert digest == previous
    assert write(tmp_path / "again", 3) == digest


def test_a_resumed_run_makes_only_what_is_missing(tmp_path):
    whole = write(tmp_path / "whole", 6)
    part = tmp_path / "part"
    write(part, 4)
    made = []
    assert write(part, 6, resume=True, made=made) == whole
    assert made == [4, 5]


@pytest.mark.parametrize("cut", [1, 5, 40, 100])
def test_a_line_that_a_kill_cut_off_is_made_again(tmp_path, cut):
    whole = write(tmp_path / "whole", 4)
    write(tmp_path / "cut", 4)
    path = tmp_path / "cut" / NAME
    path.write_bytes(path.read_bytes()[:-cut])
    assert write(tmp_path / "cut", 4, resume=True) == whole
    assert path.read_bytes().count(b"\n") == 4


def test_a_changed_line_is_refused(tmp_path):
    write(tmp_path, 4)
    path = tmp_path / NAME
    path.write_text(path.read_text().replace('"value": 0.1', '"value": 0.7'))
    with pytest.raises(DataError, match="line 2 was changed"):
        read_events(path)
    path.write_text("nonsense\n" + path.read_text())
    with pytest.raises(DataError, match="line 1 is damaged"):
        read_events(path)


def test_a_log_that_goes_on_differently_is_refused(tmp_path):
    write(tmp_path, 3)
    with EventLog(tmp_path, resume=True) as log, pytest.raises(DataError, match="start a new run"):
        log.record("step", "other", dict)


def test_a_run_is_neither_overwritten_nor_written_twice_at_once(tmp_path):
    with pytest.raises(UsageError, match="nothing to resume"):
        EventLog(tmp_path, resume=True)
    with EventLog(tmp_path) as log:
        log.record("step", "s0", dict)
        with pytest.raises(UsageError, match="another process"):
            EventLog(tmp_path, resume=True)
    with pytest.raises(UsageError, match="--resume"):
        EventLog(tmp_path)


@pytest.mark.parametrize("text", ["a user's own notes", "one line\n", '{"kind": "start"'])
def test_a_file_of_somebody_else_is_left_alone(tmp_path, text):
    (tmp_path / NAME).write_text(text)
    with pytest.raises((UsageError, DataError), match=NAME):
        EventLog(tmp_path)
    assert (tmp_path / NAME).read_text() == text


def test_a_search_that_failed_before_it_began_is_begun_anew(tmp_path):
    with EventLog(tmp_path) as log:
        log.record("start", "", lambda: 1)
    with EventLog(tmp_path) as log:
        log.record("start", "", lambda: 2)
    assert [event.data for event in read_events(tmp_path / NAME)[0]] == [2]
    with EventLog(tmp_path, resume=True) as log:
        log.record("start", "", dict)
        log.record("ready", "", dict)
    with pytest.raises(UsageError, match="holds a search already"):
        EventLog(tmp_path)


def test_observers_see_old_and_new_events(tmp_path):
    write(tmp_path, 2)
    seen = []
    with EventLog(tmp_path, resume=True, observe=lambda event: seen.append(event.key)) as log:
        assert [log.replaying, log.knows("step", "s1"), log.knows("step", "s2")] == [True, True, False]
        for i in range(3):
            log.record("step", f"s{i}", lambda: None)
    assert seen == ["s0", "s1", "s2"]

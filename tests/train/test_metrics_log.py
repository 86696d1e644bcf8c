"""The log after a resume holds every step once."""

import json

from tensorboardX.proto.event_pb2 import Event

from occjax.train.metrics_log import MetricsLog


def lines(path):
    return [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]


def test_lines_past_the_restored_step_are_redone(tmp_path):
    log = MetricsLog(tmp_path, 0)
    for step in (1, 2, 3):
        log.write(step, "train", {"loss": float(step)})
    log.close()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 4, "gro')  # a killed run
    log = MetricsLog(tmp_path, 2)
    assert [step for step in range(6) if log.has(step, "train")] == [1, 2] and not log.has(2, "validation")
    log.write(3, "train", {"loss": 30.0})
    assert log.has(3, "train")
    log.close()
    assert [(entry["step"], entry["loss"]) for entry in lines(tmp_path)] == [(1, 1.0), (2, 2.0), (3, 30.0)]
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_events_need_no_semaphores_and_end_with_the_disk(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied")  # as by a read-only /dev/shm

    monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", refused)
    log = MetricsLog(tmp_path, 4)
    log.write(5, "train", {"loss": 0.5})
    log.close()
    (path,) = (tmp_path / "tensorboard").glob("events*")
    data, events = path.read_bytes(), []
    while data:  # length, checksum, event, checksum
        size = int.from_bytes(data[:8], "little")
        events.append(Event.FromString(data[12 : 12 + size]))
        data = data[16 + size :]
    assert [event.step for event in events] == [0, 5, 5] and events[1].session_log.status == 1
    (value,) = events[2].summary.value
    assert (value.tag, value.simple_value) == ("train/loss", 0.5)


def test_values_that_are_not_finite_keep_the_file_valid(tmp_path):
    log = MetricsLog(tmp_path, 0)
    log.write(1, "train", {"loss": float("nan")})
    log.close()
    assert lines(tmp_path)[0]["loss"] == "nan"

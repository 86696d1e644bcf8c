"""The progress line says what is done, at what speed, and what is left."""

import pytest

from occjax.system.progress import Progress, format_duration


@pytest.fixture
def clock(monkeypatch):
    """Seconds that a test sets."""
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_a_line_every_few_seconds_and_one_at_the_end(clock):
    said = []
    progress = Progress("packing", 100, said.append, every_s=5.0)
    for _ in range(100):
        clock[0] += 0.5
        progress.advance(remark="3 MB")
    assert len(said) == 10
    assert said[0] == "packing: 10/100 samples, 2.00 samples/s, 3 MB, 0:45 left"
    assert said[-1] == "packing: 100/100 samples, 2.00 samples/s, 3 MB"


def test_the_first_batch_waits_for_the_compiler_and_says_nothing_of_the_speed(clock):
    said = []
    progress = Progress("evaluating", 7, said.append, every_s=0.0, untimed=3)
    for seconds in (60, 2, 2):
        clock[0] += seconds
        for _ in range(3):  # at once; of the last three, two are padding
            progress.advance()
    assert [line for i, line in enumerate(said) if i in (2, 3)] == [
        "evaluating: 6/7 samples, 1.50 samples/s, 0:01 left",
        "evaluating: 7/7 samples, 1.00 samples/s",
    ]


def test_durations():
    assert (format_duration(59.6), format_duration(3725.0)) == ("1:00", "1:02:05")

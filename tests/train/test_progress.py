"""The log says where the wall time went."""

from types import SimpleNamespace

import pytest

from occjax.train import progress as progress_module
from occjax.train.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is moved by hand."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress_module, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


def test_shares_add_up_and_steps_are_timed_without_the_rest(clock):
    progress = Progress(10, batch_size=4)

    def batches():
        while True:
            clock.now += 0.5  # waiting
            yield None

    source = batches()
    with progress.spending("compiling"):
        clock.now += 20
    for _ in range(2):
        progress.next_item(source)
        clock.now += 1.5  # the step
    first = progress.measure()
    assert first["step_s"] == 2 and first["samples_per_s"] == 2 and "model_tflop_per_s" not in first
    shares = {name.removeprefix("time/"): share for name, share in first.items() if name.startswith("time/")}
    assert shares == pytest.approx(
        {"step": 3 / 24, "waiting": 1 / 24, "compiling": 20 / 24, "saving": 0, "validating": 0}
    )
    # What follows a line belongs to the next one.
    with progress.spending("saving"):
        clock.now += 3
    with progress.spending("validating"):
        clock.now += 5
    progress.next_item(source)
    clock.now += 1.5
    progress.flops_per_step = 4e12
    second = progress.measure()
    assert second["model_tflop_per_s"] == 2
    assert (second["time/saving"], second["time/validating"], second["time/step"]) == (0.3, 0.5, 0.15)
    assert "waiting for data 5%" in progress.line(3, {}, second)
    assert progress.summary() == (
        "0:34 of wall time: step 13.2%, waiting 4.4%, compiling 58.8%, saving 8.8%, validating 14.7%"
    )


def test_the_time_left_follows_the_speed_slowly_and_knows_no_compiling(clock):
    progress = Progress(100, batch_size=1)

    def after(seconds, step):
        progress.next_item(iter([None]))
        clock.now += seconds
        return progress.line(step, {}, progress.measure()).rsplit("left ")[1]

    with progress.spending("compiling"):
        clock.now += 500
    assert after(1, 1) == "1:39"
    # Ten times as slow, once.
    assert after(10, 2) == "4:34"
    progress.summary()
    assert after(1, 3) == "3:57"

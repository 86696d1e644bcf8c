"""Latencies are those of the functions that are named, warm, and taken in turns."""

import time

from occjax.predict.latency import latencies


def test_each_run_has_its_own_percentiles():
    calls = []

    def run(name, seconds):
        def compute():
            calls.append(name)
            # The first call of every turn is slow, which does not count.
            time.sleep(0.05 if calls[-2:-1] != [name] else seconds)

        return compute

    found = latencies({"slow": run("slow", 0.008), "fast": run("fast", 0.0)}, frames=15)
    assert list(found) == ["slow", "fast"]
    assert 8 <= found["slow"].p50_ms <= found["slow"].p99_ms
    assert found["fast"].p50_ms < 4
    # In turns, all of one length.
    assert [found[name].frames for name in found] == [20, 20]
    assert calls[:2] == ["slow", "fast"]
    assert calls[2:8] == ["slow"] * 3 + ["fast"] * 3 and len(calls) == 62


def test_there_are_no_more_frames_than_there_is_time_for():
    found = latencies({"slow": lambda: time.sleep(0.02), "fast": lambda: None}, frames=1000, seconds=0.05)
    assert 1 <= found["slow"].frames == found["fast"].frames <= 10

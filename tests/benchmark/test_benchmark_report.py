"""`--mode=benchmark` from end to end on the tiny world: every figure that it promises is in the table."""

import inspect
import os
import re

import pytest
from tiny_world import tiny_config

from occjax.benchmark import inference, loader_cost, report, step_cost, throughput
from occjax.benchmark.report import benchmark


@pytest.fixture(autouse=True)
def short(monkeypatch):
    for module in (loader_cost, step_cost, throughput):
        monkeypatch.setattr(module, "_SECONDS", 0.0)
    monkeypatch.setattr(inference, "_FRAMES", 1)
    monkeypatch.setattr(throughput, "_MIN_BATCHES", 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})


def test_pictures_of_a_generated_city_say_nothing_of_nuscenes(world):
    # Before it looks at what was measured.
    assert inspect.unwrap(report._full_lines)(tiny_config(world), *(None,) * 4) == []


@pytest.mark.slow
def test_the_table_holds_every_figure(world, caplog, monkeypatch):
    config = tiny_config(world)
    # A generated city's pictures say nothing of nuScenes' disk.
    monkeypatch.setattr("occjax.benchmark.report.SYNTHETIC_VERSION", "another")
    caplog.set_level("INFO")
    text = benchmark(config)
    for line in (
        r"without geometric augmentation +plain path +ours +share",
        r"augmented as configured +plain path +ours +share",
        r"images: decode, resize or warp +\d+\.\d +\d+\.\d +\d+%",
        r"teacher +\d+\.\d +\d+\.\d +\d+%",
        r"total +\d+\.\d +\d+\.\d +100%",
        r"the plain path takes \d+\.\d times as long for the same sample",
        r"PSNR \d+\.\d dB",
        r" none +\d+\.\d +\d+\.\d +\d+% +\d+\.\d ms",
        r" 1 +\d+\.\d +\d+\.\d +\d+% +\d+\.\d ms",
        r"bytes to the device \d+\.\d\d MB per sample",
        r"compact +\d+\.\d MB +\d+ MB +\d+ ms +\d+ ms",
        r"differ by at most \d\.\de-0[4-9]",
        r"host to device +\d+\.\d\d ms/sample",
        r"forward pass +\d+\.\d ms/sample",
        r"training step +\d+\.\d ms for 4 samples",
        r"a step waits for its data \d+\.\d ms, \d+\.\d% of the time",
        r"inference: uint8 images of the network's size to classes",
        r"XLA, float32 +\d+\.\d ms +\d+\.\d ms +\d+\.\d +\d+ MB",
        r"ONNX Runtime, float32:? +",
        r"28130 \+ 6019 keyframes",
        r"one epoch of training \d+\.\d h",
        r"disk, GB: images \d+\.\d, LiDAR \d+\.\d, labels \d+\.\d, teacher \d+\.\d, together \d+\.\d;",
        r"together \d+\.\d; \d+\.\d\d MB per sample",
    ):
        assert re.search(line, text), f"{line}\n{text}"
    assert "training step: compiling" in caplog.text

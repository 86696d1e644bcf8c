"""The plain path gives the same sample as ours, and both are measured on it."""

from pathlib import Path

import numpy as np
import pytest
from loading import augmented, make_config, write_teacher_folder
from nuscenes_root import write_root

from occjax.benchmark import loader_cost
from occjax.benchmark.loader_cost import TOTAL, measure_loader_cost
from occjax.benchmark.plain_path import PlainPath, write_dense_teacher
from occjax.benchmark.timing import Stages
from occjax.data.index import load_index
from occjax.data.pack import pack_split
from occjax.data.samples import SampleReader
from occjax.data.sources import open_source
from occjax.data.teacher import dense_log_probs
from occjax.grid import SURROUNDOCC_GRID


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Configuration and split of two samples, on the labels' whole grid, with a teacher."""
    folder = tmp_path_factory.mktemp("plain")
    config = make_config(write_root(folder / "nuscenes", scenes={"scene-0061": 2}), teacher_dir=str(folder / "teacher"))
    config.grid.lower_m, config.grid.shape = SURROUNDOCC_GRID.lower_m, SURROUNDOCC_GRID.shape
    config.loss.distill.voxel_kl = 1.0
    index = load_index(config.data)
    write_teacher_folder(folder / "teacher", index.split("train"))
    return config, index


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(loader_cost, "_SECONDS", 0.0)


def test_the_plain_path_gives_the_same_sample(world, tmp_path):
    config, index = world
    split = index.split("train")
    source = open_source(config, split, with_teacher=True)
    plain = PlainPath(config, split, source, write_dense_teacher(source, [0, 1], tmp_path))
    stages = Stages()
    found = plain(1, np.random.default_rng(0), stages)
    ours = SampleReader(config, split, source, augment=None)(1, np.random.default_rng(0))
    assert found.images.shape == (1, 2, 3, 32, 48) and found.images.dtype == np.float32
    assert abs(found.images.mean()) < 2 and found.images.std() < 3
    np.testing.assert_allclose(found.depth_m[0], ours.depth_m, rtol=1e-5)
    assert ours.depth_m.any()
    np.testing.assert_array_equal(found.labels[0], ours.labels.semantics)
    dense = np.exp(dense_log_probs(ours.teacher, SURROUNDOCC_GRID.shape))
    np.testing.assert_allclose(np.moveaxis(found.teacher[0], 0, -1), dense, atol=1e-3)
    for a, b in zip(found.resized, ours.images, strict=True):
        assert 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)) > 30
    assert set(stages.seconds) == {"decode", "resize", "distort", "normalize", "depth", "labels", "teacher", "pack"}


def test_both_paths_are_measured_and_compared(world):
    config, index = world
    cost = measure_loader_cost(config, index.split("train"), with_teacher=True)
    assert cost.augmented is None and cost.ratio > 0
    assert cost.psnr_db[0] > 30
    runs = len(cost.plain.seconds[TOTAL])
    assert runs >= 5 and all(len(v) == runs for s in (cost.plain, cost.ours) for v in s.seconds.values())
    for stages, names in ((cost.plain, ("decode", "teacher")), (cost.ours, ("images", "depth", "labels", "teacher"))):
        assert 0 < sum(map(stages.median_ms, names)) <= 1.5 * stages.median_ms(TOTAL)


def test_augmentation_is_measured_where_it_is_configured(world):
    config = augmented(make_config(world[0].data.root))
    config.loss.depth = 0.0
    cost = measure_loader_cost(config, world[1].split("train"), with_teacher=False)
    assert cost.augmented.median_ms(TOTAL) > 0 and np.isfinite(cost.augmented_ratio)
    assert "depth" not in cost.ours.seconds and "teacher" not in cost.plain.seconds


def test_records_can_be_measured_without_the_files(world, tmp_path, caplog):
    root = write_root(tmp_path / "nuscenes", scenes={"scene-0061": 2})
    config = make_config(root)
    index = load_index(config.data)
    pack_split(config, index, "train", tmp_path / "records")
    config.data.records_dir = str(tmp_path / "records")
    for path in Path(root).glob("samples/*/*"):
        path.unlink()
    cost = measure_loader_cost(config, index.split("train"), with_teacher=False)
    assert cost.plain is None and np.isnan(cost.ratio) and cost.ours.median_ms(TOTAL) > 0
    assert "plain path is not measured" in caplog.text

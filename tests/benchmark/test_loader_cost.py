"""The plain path gives the same sample as ours, and both are measured on it."""

from pathlib import Path

import numpy as np
import pytest
from loading import augmented, make_config, write_teacher_folder
from nuscenes_root import write_root

from occjax.benchmark import loader_cost
from occjax.benchmark.loader_cost import TOTAL, measure_loader_cost
from occjax.benchmark.plain_augmentation import draw_augmentation
from occjax.benchmark.plain_path import PlainPath, write_dense_teacher
from occjax.benchmark.timing import StageTimes
from occjax.classes import IGNORE
from occjax.convert.pack import pack_split
from occjax.data.index import load_index
from occjax.data.samples import SampleReader
from occjax.data.sources import open_source
from occjax.grid import SURROUNDOCC_GRID
from occjax.targets.moving import dense_log_probs
from occjax.train.parts import training_parts


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


@pytest.mark.parametrize("is_augmented", [False, True])
def test_the_plain_path_gives_the_same_sample(world, tmp_path, is_augmented):
    config, index = world
    split = index.split("train")
    source = open_source(config.data, split, training_parts(config))
    plain = PlainPath(config, source, write_dense_teacher(source, [1], tmp_path))
    augmentation, augment = None, None
    if is_augmented:
        with_augmentation = augmented(make_config(config.data.root))
        augment = with_augmentation.augment
        augmentation = draw_augmentation(np.random.default_rng(7), with_augmentation)
    stages = StageTimes()
    found = plain(1, np.random.default_rng(0), stages, augmentation)
    source.parts.teacher.capacity *= 2  # room for what augmentation repeats
    ours = SampleReader(config, source, augment=augment)(1, np.random.default_rng(7))
    assert found.images.shape == (1, 2, 3, 32, 48) and found.images.dtype == np.float32
    assert abs(found.images.mean()) < 2 and found.images.std() < 3
    # A point, or a centre of a voxel, within rounding of a border may fall into the neighbour.
    assert np.mean(np.isclose(found.depth_m[0], ours.depth_m, rtol=1e-5)) > 0.99
    assert ours.depth_m.any()
    assert np.mean(found.labels[0] == ours.labels.semantics) > 0.9999
    known = ours.labels.semantics != IGNORE
    dense = np.exp(dense_log_probs(ours.teacher, SURROUNDOCC_GRID.shape))
    close = np.isclose(np.moveaxis(found.teacher[0], 0, -1), dense, atol=1e-3).all(-1)
    assert close[known].mean() > 0.9999 and known.mean() > 0.7
    for a, b in zip(found.resized, ours.images, strict=True):
        assert 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)) > 25
    expected = {"decode", "resize", "distort", "normalize", "depth", "labels", "teacher", "pack"}
    assert set(stages.seconds) == expected | ({"warp", "index"} if is_augmented else set())


def test_both_paths_are_measured_and_compared(world):
    config, index = world
    cost, of_augmented = measure_loader_cost(config, index.split("train"), training_parts(config))
    assert of_augmented is None and cost.ratio > 0
    assert cost.psnr_db[0] > 30
    runs = len(cost.plain.seconds[TOTAL])
    assert runs >= 5 and all(len(v) == runs for s in (cost.plain, cost.ours) for v in s.seconds.values())
    for stages, names in ((cost.plain, ("decode", "teacher")), (cost.ours, ("images", "depth", "labels", "teacher"))):
        assert 0 < sum(map(stages.median_ms, names)) <= 1.5 * stages.median_ms(TOTAL)


def test_augmentation_is_measured_where_it_is_configured(world):
    config = augmented(make_config(world[0].data.root))
    config.loss.depth = 0.0
    cost = measure_loader_cost(config, world[1].split("train"), training_parts(config)).augmented
    assert cost.ratio > 0 and cost.psnr_db[0] > 25 and "warp" in cost.plain.seconds
    assert "depth" not in cost.ours.seconds and "teacher" not in cost.plain.seconds


def test_records_can_be_measured_without_the_files(world, tmp_path, caplog):
    root = write_root(tmp_path / "nuscenes", scenes={"scene-0061": 2})
    config = make_config(root)
    index = load_index(config.data)
    pack_split(config, index, "train", tmp_path / "records")
    config.data.records_dir = str(tmp_path / "records")
    for path in Path(root).glob("samples/*/*"):
        path.unlink()
    cost = measure_loader_cost(config, index.split("train"), training_parts(config)).unaugmented
    assert cost.plain is None and np.isnan(cost.ratio) and cost.ours.median_ms(TOTAL) > 0
    assert "plain path is not measured" in caplog.text

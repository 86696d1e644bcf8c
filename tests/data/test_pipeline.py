"""The order of batches: reproducible, resumable, shared among processes, nothing lost or doubled."""

import multiprocessing
import os
import signal

import numpy as np
import pytest
from loading import assert_same, augmented, eval_loader, leaves, make_config, take, train_loader
from nuscenes_root import write_root

from occjax.config import DataConfig
from occjax.data.index import load_index
from occjax.data.pipeline import BatchLoader
from occjax.data.worker import start_worker
from occjax.errors import DataError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_root(tmp_path_factory.mktemp("pipeline") / "nuscenes")


def test_batches_do_not_depend_on_workers(root):
    config = augmented(make_config(root, batch_size=2))
    index = load_index(config.data)
    expected = take(train_loader(config, index), 7)
    assert not np.array_equal(expected[0].images, expected[1].images)
    for workers in (1, 3):
        config.data.workers = workers
        for a, b in zip(expected, take(train_loader(config, index), 7), strict=True):
            assert_same(a, b)


def test_resume_continues_exactly_even_with_other_workers(root):
    config = augmented(make_config(root, batch_size=2))
    index = load_index(config.data)
    expected = take(train_loader(config, index), 8)
    loader = train_loader(config, index)
    take(loader, 3)
    state = loader.get_state()
    for workers in (0, 2):
        config.data.workers = workers
        resumed = train_loader(config, index)
        resumed.set_state(state)
        for a, b in zip(expected[3:], take(resumed, 5), strict=True):
            assert_same(a, b)
        assert resumed.get_state()["next_batch"] == 8
    config.data.batch_size = 4
    with pytest.raises(DataError, match="batch_size"):
        train_loader(config, index).set_state(state)


def test_every_epoch_has_each_sample_once_in_a_new_order(root):
    config = make_config(root)
    index = load_index(config.data)
    count = len(index.split("train"))
    rows = [int(b.sample_index[0]) for b in take(train_loader(config, index), 4 * count)]
    epochs = [rows[i : i + count] for i in range(0, len(rows), count)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    config.data.shuffle_seed = 1
    assert rows != [int(b.sample_index[0]) for b in take(train_loader(config, index), 4 * count)]


def test_augmentation_differs_between_epochs_and_samples(root):
    config = augmented(make_config(root))
    index = load_index(config.data)
    matrices = [b.rig.augmented_from_grid.tobytes() for b in take(train_loader(config, index), 12)]
    assert len(set(matrices)) == 12


def test_processes_share_each_batch_without_overlap_or_loss(root):
    config = augmented(make_config(root, batch_size=4))
    index = load_index(config.data)
    whole = take(train_loader(config, index), 4)
    parts = [take(train_loader(config, index, process_index=p, process_count=2), 4) for p in range(2)]
    for step in range(4):
        for p in range(2):
            assert_same(leaves(parts[p][step]), [leaf[p::2] for leaf in leaves(whole[step])])
    rows = []
    for p in range(2):
        loader = eval_loader(config, index, "train", batch_size=4, process_index=p, process_count=2)
        assert len(loader) == 2
        for batch in loader:
            assert batch.images.shape[0] == 2
            rows += batch.sample_index[batch.is_valid].tolist()
    assert sorted(rows) == list(range(5))
    with pytest.raises(DataError, match="does not divide"):
        train_loader(config, index, process_index=0, process_count=3)


def test_evaluation_is_finite_in_order_and_rewinds(root):
    config = make_config(root)
    index = load_index(config.data)
    loader = eval_loader(config, index, "train", batch_size=3)
    first = list(loader)
    assert [b.sample_index[b.is_valid].tolist() for b in first] == [[0, 1, 2], [3, 4]]
    assert list(loader) == []
    loader.set_state({**loader.get_state(), "next_batch": 0})
    for a, b in zip(first, loader, strict=True):
        assert_same(a, b)
    short = eval_loader(config, index, "train", batch_size=3, max_samples=1)
    assert [b.is_valid.tolist() for b in short] == [[True, False, False]]
    config.data.workers = 3
    for a, b in zip(first, eval_loader(config, index, "train", batch_size=3), strict=True):
        assert_same(a, b)


def test_a_worker_that_dies_is_reported():
    import grain

    samples = grain.MapDataset.range(4).map(lambda _: os._exit(9))
    loader = BatchLoader(samples, DataConfig(workers=2, prefetch=1), batch_size=1, identity={})
    with pytest.raises(DataError, match="worker|process died"):
        list(loader)


def test_a_worker_that_is_killed_is_reported_and_not_waited_for(root):
    config = make_config(root, workers=2)
    loader = train_loader(config, load_index(config.data))
    next(loader)
    victim = multiprocessing.active_children()[0]
    os.kill(victim.pid, signal.SIGKILL)
    with pytest.raises(DataError, match="a loader process died.*-9.*data.workers"):
        for _ in range(20):
            next(loader)
    loader.close()


def test_workers_stay_off_the_accelerator():
    def platforms():
        import jax

        return jax.config.jax_platforms

    script_platforms = os.environ.pop("JAX_PLATFORMS", None)
    try:
        import grain

        batches = grain.MapDataset.range(1).map(lambda _: np.array(platforms())).batch(1)
        options = grain.MultiprocessingOptions(num_workers=1)
        iterator = iter(batches.to_iter_dataset().mp_prefetch(options, worker_init_fn=start_worker))
        assert next(iterator).tolist() == ["cpu"]
        iterator.close()
    finally:
        if script_platforms is not None:
            os.environ["JAX_PLATFORMS"] = script_platforms

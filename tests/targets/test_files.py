"""Teacher files: plain arrays, written whole or not at all, with little lost in what is folded away."""

import errno
import json
import zipfile

import numpy as np
import pytest
from teacher_folder import GRID, probabilities, write_folder

from occjax.classes import FREE, NUM_CLASSES
from occjax.targets.codec import floored_log_probs, kl_divergence
from occjax.targets.files import (
    compact_teacher,
    prune,
    read_teacher,
    sparse_from_probabilities,
    write_teacher,
)
from occjax.targets.folder import TeacherFolder


def test_a_dense_file_is_float16_channel_last_with_token_and_grid(tmp_path):
    write_folder(tmp_path, form="dense")
    with np.load(tmp_path / "a.npz") as file:
        assert file["voxel_logits"].dtype == np.float16 and file["voxel_logits"].shape == (*GRID.shape, NUM_CLASSES)
        assert file["bev_logits"].shape == (*GRID.shape[:2], NUM_CLASSES)
        np.testing.assert_allclose(np.exp(file["voxel_logits"].astype(np.float32)).sum(-1), 1, atol=4e-3)
    found = read_teacher(tmp_path / "a.npz")
    assert (found.token, found.grid) == ("a", GRID)


def test_pruning_keeps_the_mean_of_what_it_folds_and_the_budget():
    r = np.random.default_rng(0)
    probs = np.zeros((20000, NUM_CLASSES), np.float32)
    probs[:, 3] = r.choice([0.0, 0.0015, 0.004, 0.5], len(probs), p=[0.9, 0.04, 0.03, 0.03])
    probs[:, FREE] = 1 - probs[:, 3]
    sparse = prune(sparse_from_probabilities(probs), len(probs))
    folded = np.setdiff1d(np.arange(len(probs)), sparse.index)
    np.testing.assert_allclose(sparse.background, probs[folded].mean(0), rtol=1e-3, atol=1e-7)
    assert np.isin(np.flatnonzero(probs[:, 3] == 0.5), sparse.index).all()
    kl = kl_divergence(floored_log_probs(probs[folded]), floored_log_probs(sparse.background)).sum() / len(probs)
    assert kl < 1e-3


def test_nothing_is_left_behind_when_writing_fails(tmp_path, monkeypatch):
    def savez(file, **arrays):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(np, "savez", savez)
    with pytest.raises(OSError, match="no space left: .*a.npz"):
        write_teacher(tmp_path / "a.npz", compact_teacher("a", GRID, sparse_from_probabilities(probabilities())))
    assert list(tmp_path.iterdir()) == []


def test_files_are_plain_and_those_that_were_compressed_are_still_read(tmp_path):
    folder = TeacherFolder(write_folder(tmp_path), GRID)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        arrays = dict(file)
        assert all(info.compress_type == zipfile.ZIP_STORED for info in file.zip.infolist())
    assert arrays["levels"].shape[0] == 9 and json.loads(str(arrays["meta"]))["token"] == "a"
    plain = folder.read("a")
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    for before, now in zip(plain.voxels, folder.read("a").voxels, strict=True):
        np.testing.assert_array_equal(before, now)

"""The dump surface, file by file: names, types, shapes and values, worked out here by other means; and its options."""

import json

import cv2
import numpy as np
import pytest
from dump_world import GRID, World

from occjax.classes import CLASS_COLORS, FREE, NUM_CLASSES
from occjax.config import DataConfig
from occjax.convert.dump.arrays import DumpError
from occjax.convert.dump.convert import convert_dump
from occjax.convert.dump.options import DumpOptions
from occjax.convert.dump.surface import KINDS, SurfaceOptions

X, Y, Z = GRID.shape


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("convert") / "nuscenes")


@pytest.fixture(scope="module")
def source(world, tmp_path_factory):
    return world.dump(tmp_path_factory.mktemp("dump") / "source")


def convert(world, source, output, **surface):
    options = DumpOptions(grid=GRID, surface=SurfaceOptions(**surface), splits=("val",))
    return convert_dump(source, output, data_config=world.data, options=options, audit=False)


@pytest.fixture(scope="module")
def plain(world, source, tmp_path_factory):
    """The folder of all kinds, with the dump script's own options."""
    folder = tmp_path_factory.mktemp("plain")
    convert(world, source, folder / "teacher", also=tuple(KINDS), also_dir=str(folder / "dump"))
    return folder / "dump"


def sample(world):
    token = world.samples[4][2]
    return world.dumped[token], world.labels[token]


def scanned(labels, direction="low2high"):
    """What a column's scan leaves."""
    bev = np.full(labels.shape[:2], FREE, np.uint8)
    heights = range(labels.shape[2])
    for z in heights if direction == "low2high" else reversed(heights):
        bev = np.where(labels[..., z] == FREE, bev, labels[..., z])
    return bev


def topmost(probabilities):
    """[K, X, Y] in float64, a voxel at a time from above."""
    p, out, above = probabilities.astype(np.float64), np.zeros((NUM_CLASSES, X, Y)), np.ones((X, Y))
    for z in reversed(range(Z)):
        out[:FREE] += p[:FREE, ..., z] * above
        above *= p[FREE, ..., z]
    out[FREE] = above
    return out


def picture(path):
    return cv2.imread(str(path))[..., ::-1]


def test_every_kind_is_there_under_the_dump_scripts_names(plain):
    found = {str(path.relative_to(plain)) for path in plain.rglob("*") if path.is_file()}
    assert found == {
        "manifest.json",
        "occ3d_sem/val/000000_0_occ3d_sem.npy",
        "bev_sem/val/000000_0_bev_sem.npy",
        "bev_vis/val/000000_0_bev_sem.png",
        "bev_prob/val/000000_0_bev_prob_fp16.npz",
        "occ3d_logits/val/000000_0_3d_logits_fp16.npz",
        "gt_bev/val/000000_0_gt_bev_sem.npy",
        "gt_bev_vis/val/000000_0_gt_bev_sem.png",
        "gt_bev_mask_vis/val/000000_0_gt_bev_mask.png",
    }


def test_voxels(world, plain):
    probabilities, _ = sample(world)
    labels = np.load(plain / "occ3d_sem/val/000000_0_occ3d_sem.npy")
    assert labels.dtype == np.uint8 and labels.shape == GRID.shape
    np.testing.assert_array_equal(labels, probabilities.argmax(0))
    with np.load(plain / "occ3d_logits/val/000000_0_3d_logits_fp16.npz") as scores:
        assert scores.files == ["logits"] and scores["logits"].dtype == np.float16
        np.testing.assert_array_equal(scores["logits"].view(np.uint16), probabilities.view(np.uint16))


def test_bev_maps_and_pictures(world, plain):
    probabilities, truth = sample(world)
    for folder, ending, labels in (("bev", "bev_sem", probabilities.argmax(0)), ("gt_bev", "gt_bev_sem", truth)):
        name = f"val/000000_0_{ending}"
        bev = np.load(plain / (f"{folder}_sem" if folder == "bev" else folder) / f"{name}.npy")
        assert bev.dtype == np.uint8 and bev.shape == (X, Y)
        np.testing.assert_array_equal(bev, scanned(labels))
        drawn = picture(plain / f"{folder}_vis/{name}.png")
        np.testing.assert_array_equal(drawn, np.kron(CLASS_COLORS[bev], np.ones((4, 4, 1), np.uint8)))
    mask = picture(plain / "gt_bev_mask_vis/val/000000_0_gt_bev_mask.png")
    counts = (truth != 0).any(-1)  # SurroundOcc's noise counts nowhere
    np.testing.assert_array_equal(mask[::4, ::4, 0], np.where(counts, 255, 0))


def test_bev_scores(world, source, plain, tmp_path):
    wanted = topmost(sample(world)[0])
    with np.load(plain / "bev_prob/val/000000_0_bev_prob_fp16.npz") as scores:
        assert scores.files == ["logits"]
        logits = scores["logits"]
    assert logits.dtype == np.float16 and logits.shape == (NUM_CLASSES, X, Y) and logits.min() >= -13.82
    exponent = np.exp(logits.astype(np.float64))
    np.testing.assert_allclose(exponent / exponent.sum(0), wanted, atol=4e-3)
    # Half of the columns, with none too close to call.
    occupied = np.sort(1 - wanted[FREE], axis=None)
    at = len(occupied) // 4 + np.diff(occupied[len(occupied) // 4 : -len(occupied) // 4]).argmax()
    threshold = float(occupied[at : at + 2].mean())
    convert(
        *(world, source, tmp_path / "out"),
        **{"also": ("bev_prob",), "also_dir": str(tmp_path / "dump")},
        **{"bev_prob_type": "prob", "bev_prob_format": "npy", "bev_prob_occ_thresh": threshold},
    )
    probabilities = np.load(tmp_path / "dump/bev_prob/val/000000_0_bev_prob_fp16.npy")
    wanted = np.where(1 - wanted[FREE] < threshold, np.eye(NUM_CLASSES)[FREE][:, None, None], wanted)
    assert 0 < (wanted[FREE] == 1).sum() < X * Y
    np.testing.assert_allclose(probabilities, wanted, atol=1e-3)
    read = convert_dump(
        *(tmp_path / "dump", tmp_path / "bev"),
        data_config=world.data,
        options=DumpOptions(grid=GRID, splits=("val",)),
        audit=False,
    )
    assert read.kinds == {"probabilities": 1}


def test_options_of_the_maps(world, source, tmp_path):
    how = {"bev_scan_direction": "high2low", "bev_rotate_k": 1, "bev_flip_x": True, "vis_scale": 2}
    kinds = ("bev_sem", "bev_vis", "bev_prob", "gt_bev")
    convert(world, source, tmp_path / "out", also=kinds, also_dir=str(tmp_path / "a"), bev_prob_type="prob", **how)
    probabilities, truth = sample(world)
    for name, labels in (("bev_sem", probabilities.argmax(0)), ("gt_bev_sem", truth)):
        found = np.load(
            tmp_path / "a" / name.removesuffix("_sem" if name[0] == "g" else "") / f"val/000000_0_{name}.npy"
        )
        np.testing.assert_array_equal(found, np.rot90(scanned(labels, "high2low"))[::-1])
    assert picture(tmp_path / "a/bev_vis/val/000000_0_bev_sem.png").shape == (2 * Y, 2 * X, 3)
    found = np.load(tmp_path / "a/bev_prob/val/000000_0_bev_prob_fp16.npz")["prob"]
    np.testing.assert_allclose(found, np.rot90(topmost(probabilities), axes=(1, 2))[:, ::-1], atol=1e-3)
    convert(world, source, tmp_path / "out2", also=("bev_sem",), also_dir=str(tmp_path / "b"), bev_sem_mode="priority")
    bev, labels = np.load(tmp_path / "b/bev_sem/val/000000_0_bev_sem.npy"), probabilities.argmax(0)
    np.testing.assert_array_equal(bev[(labels == 4).any(-1)], 4)


def test_options_are_recorded_beside_the_dump(plain):
    manifest = json.loads((plain / "manifest.json").read_text())
    assert manifest["schema"] == "occjax-dump" and manifest["source"] == "dump source"
    assert manifest["kinds"] == sorted(KINDS) and manifest["splits"] == ["val"]
    assert (manifest["spatial_shape"], manifest["num_classes"], manifest["free_id"]) == ([X, Y, Z], 18, 17)
    assert manifest["run"] == {"max_samples": -1, "skip_existing": False}
    assert manifest["options"] == {
        "bev_sem_mode": "overwrite",
        "bev_scan_direction": "low2high",
        "bev_priority_ids": [4, 10, 3, 9, 5, 6, 2, 7, 8, 1],
        "vis_scale": 4,
        "bev_prob_type": "logits",
        "bev_prob_format": "npz",
        "bev_prob_occ_thresh": 0.01,
        "bev_prob_compress": True,
        "dump_3d_compress": True,
        "bev_rotate_k": 0,
        "bev_flip_x": False,
        "bev_flip_y": False,
        "dump_3d_type": "logits",
    }


def test_the_dump_scripts_own_options_name_a_kinds_folder(world, source, plain, tmp_path):
    aliases = {"occ3d_sem": "occ3d", "bev_sem": "bev", **{k: k for k in KINDS if "_vis" in k or k == "gt_bev"}}
    convert(world, source, tmp_path / "out", **{f"dump_{name}_dir": str(tmp_path / name) for name in aliases.values()})
    for kind, name in aliases.items():
        (path,) = (tmp_path / name / "val").iterdir()
        assert path.read_bytes() == (plain / kind / "val" / path.name).read_bytes()
        assert json.loads((tmp_path / name / "manifest.json").read_text())["kinds"] == [kind]


def test_a_sample_without_truth_to_draw_gives_nothing(world, source, tmp_path):
    maps = SurfaceOptions(dump_gt_bev_dir=str(tmp_path / "gt"))
    data = DataConfig(root=str(world.root), labels_dir=str(tmp_path))
    options = DumpOptions(grid=GRID, surface=maps, splits=("val",))
    result = convert_dump(source, tmp_path / "out", data_config=data, options=options)
    assert "need labels" in result.failures[0][1] and not list((tmp_path / "out").iterdir())


def test_a_bev_map_alone_gives_no_voxels(world, tmp_path):
    dump = world.dump(tmp_path / "bev", bev=True)
    with pytest.raises(DumpError, match="no heights to write occ3d_sem"):
        convert(world, dump, tmp_path / "out", also=("occ3d_sem", "bev_sem"), also_dir=str(tmp_path / "a"))
    convert(world, dump, tmp_path / "out", also=("bev_sem", "bev_prob"), also_dir=str(tmp_path / "b"))
    assert np.load(tmp_path / "b/bev_sem/val/000000_0_bev_sem.npy").shape == (X, Y)


def test_a_dump_of_somebody_else_is_not_written_into(world, source, tmp_path):
    with pytest.raises(DumpError, match="holds files but .* no manifest.json"):
        convert(world, source, tmp_path / "out", also=("occ3d_logits",), also_dir=str(source))
    (tmp_path / "manifest.json").write_text('{"schema": "occjax-teacher"}')
    with pytest.raises(DumpError, match="that of something else"):
        convert(world, source, tmp_path / "out", also=("bev_sem",), also_dir=str(tmp_path))


def test_options_are_checked_before_a_run():
    for wrong, named in (
        (lambda: SurfaceOptions(vis_scale=0), "--vis-scale"),
        (lambda: SurfaceOptions(bev_priority_ids=(4, 18)), "--bev-priority-ids"),
        (lambda: SurfaceOptions(bev_prob_occ_thresh=1.5), "--bev-prob-occ-thresh"),
        (lambda: SurfaceOptions(also=("bev_sim",), also_dir="x"), "knows no bev_sim; the kinds are occ3d_sem"),
        (lambda: SurfaceOptions(also=("bev_sem",)), "--also-dir where"),
        (lambda: DumpOptions(num_classes=17), "--num-classes"),
        (lambda: DumpOptions(free_id=18), "--free-id"),
    ):
        with pytest.raises(DumpError, match=named):
            wrong()

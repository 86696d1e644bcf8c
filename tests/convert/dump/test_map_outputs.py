"""Maps and pictures beside the teacher files, and the options that are checked before anything is read."""

import numpy as np
import pytest
from dump_world import GRID, World

from occjax.config import DataConfig
from occjax.convert.dump.arrays import DumpError
from occjax.convert.dump.convert import convert_dump
from occjax.convert.dump.options import DumpOptions
from occjax.convert.dump.surface import SurfaceOptions


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("convert") / "nuscenes")


def test_maps_and_pictures(world, tmp_path):
    names = ("occ3d", "bev", "bev_vis", "gt_bev", "gt_bev_vis", "gt_bev_mask_vis")
    maps = SurfaceOptions(**{f"dump_{name}_dir": str(tmp_path / name) for name in names})
    options = DumpOptions(grid=GRID, surface=maps, splits=("val",))
    convert_dump(world.dump(tmp_path / "d"), tmp_path / "out", data_config=world.data, options=options, audit=False)
    token = world.samples[4][2]
    semantics = np.load(tmp_path / "occ3d/val/000000_0_occ3d_sem.npy")
    np.testing.assert_array_equal(semantics, world.dumped[token].argmax(0))
    bev = np.load(tmp_path / "bev/val/000000_0_bev_sem.npy")
    assert bev.shape == GRID.shape[:2] and bev.dtype == np.uint8
    truth = np.load(tmp_path / "gt_bev/val/000000_0_gt_bev_sem.npy")
    assert (truth == bev).mean() > 0.95
    for name in ("bev_vis", "gt_bev_vis", "gt_bev_mask_vis"):
        assert len(list((tmp_path / name / "val").glob("*.png"))) == 1


def test_a_sample_without_truth_to_draw_gives_nothing(world, tmp_path):
    maps = SurfaceOptions(dump_gt_bev_dir=str(tmp_path / "gt"))
    data = DataConfig(root=str(world.root), labels_dir=str(tmp_path))
    options = DumpOptions(grid=GRID, surface=maps, splits=("val",))
    result = convert_dump(world.dump(tmp_path / "d"), tmp_path / "out", data_config=data, options=options)
    assert "need labels" in result.failures[0][1] and not list((tmp_path / "out").iterdir())


def test_options_are_checked_before_a_run(tmp_path):
    for wrong, named in (
        (lambda: SurfaceOptions(vis_scale=0), "--vis-scale"),
        (lambda: SurfaceOptions(bev_priority_ids=(4, 18)), "--bev-priority-ids"),
        (lambda: DumpOptions(num_classes=17), "--num-classes"),
        (lambda: DumpOptions(free_id=18), "--free-id"),
    ):
        with pytest.raises(DumpError, match=named):
            wrong()

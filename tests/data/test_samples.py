"""What a batch holds: that all its parts agree, and that nothing is misaligned, damaged or absent in silence."""

import jax
import numpy as np
import pytest
from loading import assert_same, augmented, eval_loader, leaves, make_config, take, train_loader, write_teacher_folder
from nuscenes_root import HEIGHT, WIDTH, surroundocc_voxels, token, write_root

from occjax.classes import FREE, IGNORE
from occjax.config import NUSCENES_CAMERAS, Config
from occjax.data.index import load_index
from occjax.data.parts import Parts
from occjax.data.pipeline import make_eval_loader, make_train_loader
from occjax.data.sources import unlabelled_rows
from occjax.errors import DataError, SampleError
from occjax.grid import OCC3D_GRID, SURROUNDOCC_GRID, GridMismatchError, VoxelGrid
from occjax.pooling import pool_labels
from occjax.run.overrides import load_config_file
from occjax.targets.files import TeacherFileError
from occjax.targets.moving import dense_log_probs
from occjax.targets.reader import open_teacher


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_root(tmp_path_factory.mktemp("pipeline") / "nuscenes")


def test_a_batch_holds_what_the_files_hold(root):
    config = make_config(root)
    index = load_index(config.data)
    split = index.split("val")
    batches = list(eval_loader(config, index, "val", batch_size=2))
    assert [b.is_valid.tolist() for b in batches] == [[True, True], [True, False]]
    batch = batches[0]
    assert batch.images.shape == (2, 2, 32, 48, 3) and batch.images.dtype == np.uint8 and batch.images.any()
    assert batch.depth_m.shape == (2, 2, 2, 3) and batch.depth_m.dtype == np.float32 and batch.depth_m.any()
    assert batch.sample_index.tolist() == [0, 1] and batch.sample_index.dtype == np.int32
    assert batch.labels.camera_mask is None and batch.teacher is None
    np.testing.assert_allclose(batch.rig.cam_from_grid, split.cam_from_lidar[:2])
    np.testing.assert_allclose(batch.rig.pixel_from_cam, split.pixel_from_cam[:2])
    np.testing.assert_allclose(batch.rig.input_from_pixel[1, 1], np.diag([48 / WIDTH, 32 / HEIGHT, 1]))
    np.testing.assert_array_equal(batch.rig.augmented_from_grid[0], np.eye(3))
    assert {a.dtype for a in leaves(batch.rig)} == {np.dtype(np.float32), np.dtype(bool)}
    expected = np.full(SURROUNDOCC_GRID.shape, FREE)
    x, y, z, classes = surroundocc_voxels("scene-0003", 1).T
    expected[x, y, z] = classes
    np.testing.assert_array_equal(batch.labels.semantics[1], expected[60:140, 60:140])


def test_occ3d_batches_live_in_the_ego_frame(root):
    config = make_config(root, labels="occ3d")
    config.grid.frame, config.grid.voxel_size_m = "ego", OCC3D_GRID.voxel_size_m
    config.grid.lower_m, config.grid.shape = OCC3D_GRID.lower_m, OCC3D_GRID.shape
    index = load_index(config.data)
    batch = next(eval_loader(config, index, "val", batch_size=1))
    np.testing.assert_allclose(batch.rig.cam_from_grid[0], index.split("val").cam_from_ego[0])
    file = np.load(root / "gts/scene-0003" / token("scene-0003", 0) / "labels.npz")
    np.testing.assert_array_equal(batch.labels.semantics[0], file["semantics"])
    np.testing.assert_array_equal(batch.labels.camera_mask[0], file["mask_camera"].astype(bool))


@pytest.mark.parametrize("labels, frame", [("occ3d", "lidar"), ("surroundocc", "ego")])
def test_labels_of_another_frame_are_refused(root, labels, frame):
    config = make_config(root, labels=labels)
    config.grid.frame = frame
    with pytest.raises(GridMismatchError, match=r"(?s)(ego|lidar) frame.*(ego|lidar) frame"):
        train_loader(config, load_index(config.data))


def test_teacher_and_labels_stay_aligned_under_crop_and_augmentation(root, tmp_path):
    config = augmented(make_config(root, teacher_dir=str(tmp_path / "teacher"), batch_size=2))
    config.loss.distill.voxel_kl = 1.0
    index = load_index(config.data)
    write_teacher_folder(tmp_path / "teacher", index.split("train"))

    def check(batch, *, may_leave_grid):
        for i in range(len(batch.sample_index)):
            teacher = jax.tree.map(lambda a, i=i: a[i], batch.teacher)
            guess = dense_log_probs(teacher, config.grid.build().shape).argmax(-1)
            semantics = batch.labels.semantics[i]
            known = semantics != IGNORE
            assert np.count_nonzero(semantics[known] != FREE) > 200
            np.testing.assert_array_equal(guess[known], semantics[known])
            # One voxel off is noticed.
            assert np.mean(np.roll(guess, 1, axis=0)[known] == semantics[known]) < 0.99
            assert may_leave_grid or known.all()

    for batch in take(train_loader(config, index), 4):
        assert not np.allclose(batch.rig.augmented_from_grid, np.eye(3))
        check(batch, may_leave_grid=True)
    for batch in eval_loader(config, index, "train", batch_size=2):
        check(batch, may_leave_grid=False)
    # Evaluation does without where the folder does not hold the split.
    assert next(eval_loader(config, index, "val", batch_size=1)).teacher is None


def test_labels_and_teacher_are_pooled_alike_on_a_coarser_grid(root, tmp_path):
    """100×100×8 voxels of 1 m, with BEV augmentation: what is augmented finely is pooled afterwards."""
    config = make_config(root)
    config.grid.lower_m, config.grid.shape = (-50.0, -50.0, -5.0), (200, 200, 16)
    config.augment.bev_rotate_deg, config.augment.bev_flip_x = 20.0, True
    index = load_index(config.data)
    config.data.teacher_dir, config.loss.distill.voxel_kl = str(tmp_path / "teacher"), 1.0
    write_teacher_folder(tmp_path / "teacher", index.split("train"))
    fine = next(train_loader(config, index))
    config.grid.voxel_size_m, config.grid.shape = 1.0, (100, 100, 8)
    coarse = next(train_loader(config, index))
    np.testing.assert_array_equal(coarse.labels.semantics[0], pool_labels(fine.labels.semantics[0], None, 2)[0])
    semantics = coarse.labels.semantics[0]
    assert IGNORE in semantics and np.mean(semantics < FREE) > 0.02
    teacher = dense_log_probs(jax.tree.map(lambda a: a[0], coarse.teacher), (100, 100, 8)).argmax(-1)
    valid = np.unpackbits(coarse.teacher.voxels.valid[0], count=semantics.size).reshape(semantics.shape).astype(bool)
    # Blocks at the border are known to the labels in part.
    assert np.mean(valid[semantics != IGNORE]) > 0.9 and not valid[semantics == IGNORE].any()
    np.testing.assert_array_equal((teacher == FREE)[valid], (semantics == FREE)[valid])
    assert np.mean(teacher[valid] == semantics[valid]) > 0.99


def test_teacher_of_another_sample_or_grid_is_refused(root, tmp_path):
    config = make_config(root, teacher_dir=str(tmp_path / "swapped"))
    config.loss.distill.bev_kl = 0.5
    index = load_index(config.data)
    split = index.split("train")
    write_teacher_folder(tmp_path / "swapped", split)
    first, second = (tmp_path / "swapped" / f"{name}.npz" for name in split.tokens[:2])
    held = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(held)
    with pytest.raises(TeacherFileError, match=f"{split.tokens[0]}|{split.tokens[1]}"):
        take(train_loader(config, index), len(split))
    first.unlink()
    with pytest.raises(DataError, match=rf"1 of {len(split)} teacher files, tokens {split.tokens[0]}"):
        train_loader(config, index)
    config.data.teacher_dir = str(tmp_path / "shifted")
    shifted = VoxelGrid("lidar", (-49.9, -50.0, -5.0), 0.5, SURROUNDOCC_GRID.shape)
    write_teacher_folder(tmp_path / "shifted", split, grid=shifted)
    with pytest.raises(GridMismatchError, match=r"-49\.9"):
        train_loader(config, index)


def test_missing_camera_is_a_mask(tmp_path):
    root = write_root(tmp_path / "root", scenes={"scene-0061": 2}, dropped=(("scene-0061", 1, "CAM_FRONT"),))
    config = make_config(root, cameras=("CAM_FRONT_RIGHT", "CAM_FRONT"))
    index = load_index(config.data)
    first, second = eval_loader(config, index, "train", batch_size=1)
    assert first.rig.is_present.tolist() == [[True, True]]
    assert second.rig.is_present.tolist() == [[True, False]]
    assert not second.images[0, 1].any() and second.images[0, 0].any()
    assert not second.depth_m[0, 1].any() and second.depth_m[0, 0].any()
    for matrix in (second.rig.cam_from_grid, second.rig.pixel_from_cam, second.rig.input_from_pixel):
        assert np.all(np.abs(np.linalg.det(matrix)) > 0)
    # The remaining cameras' augmentation does not depend on the missing one.
    both = [augmented(make_config(root, cameras=cameras)) for cameras in (NUSCENES_CAMERAS[:2], NUSCENES_CAMERAS[:2])]
    assert_same(*(next(train_loader(c, index)) for c in both))


def test_cameras_that_the_tables_lack_are_named_beside_those_that_are_there(tmp_path):
    config = make_config(write_root(tmp_path / "root", scenes={"scene-0061": 1}))
    index = load_index(config.data)
    config.data.cameras = ("CAM_FRONT", "CAM_FRNT", "ring_front_center")
    with pytest.raises(DataError, match=r"CAM_FRNT, ring_front_center, .* they have CAM_FRONT, CAM_FRONT_RIGHT; did "):
        eval_loader(config, index, "train", batch_size=1)


def test_absent_files_are_all_reported_at_the_start(tmp_path):
    root = write_root(tmp_path / "root", scenes={"scene-0061": 3})
    config = make_config(root)
    index = load_index(config.data)
    split = index.split("train")
    (root / split.camera_file[1, 0].decode()).unlink()
    for name in split.lidar_file[:2]:
        (root / name.decode()).unlink()
    with pytest.raises(DataError) as caught:
        train_loader(config, index)
    message = str(caught.value)
    assert f"1 of 3 CAM_FRONT images, tokens {split.tokens[1]}" in message
    assert f"2 of 3 LiDAR sweeps, tokens {split.tokens[0]}, {split.tokens[1]}" in message
    assert "or train without depth supervision: --config.loss.depth=0" in message
    assert "CAM_FRONT_RIGHT" not in message and "labels" not in message and "--mode=doctor" in message
    config.loss.depth = 0.0
    config.data.cameras = ("CAM_FRONT_RIGHT",)
    assert next(train_loader(config, index)).depth_m is None


def test_a_part_that_nobody_wants_is_neither_read_nor_required(tmp_path):
    root = write_root(tmp_path / "root", scenes={"scene-0061": 2})
    config = augmented(make_config(root, labels_dir=str(tmp_path / "nowhere")))
    index = load_index(config.data)
    split = index.split("train")
    for name in split.lidar_file:
        (root / name.decode()).unlink()
    batch = next(make_train_loader(config, index, Parts()))
    assert batch.depth_m is None and batch.labels is None and batch.teacher is None
    assert batch.images.any() and not np.allclose(batch.rig.augmented_from_grid, np.eye(3))
    write_teacher_folder(tmp_path / "teacher", split)
    config.data.teacher_dir = str(tmp_path / "teacher")
    batch = next(make_train_loader(config, index, Parts(teacher=open_teacher(config))))
    assert batch.labels is None and batch.teacher.voxels.index.shape[0] == 1
    assert unlabelled_rows(config.data, split) == [0, 1]
    config.data.labels_dir = ""
    assert unlabelled_rows(config.data, split) == []
    with pytest.raises(DataError, match="2 of 2 LiDAR sweeps"):
        make_eval_loader(config, index, "train", Parts(lidar=True), batch_size=1)


@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_file_names_itself_and_the_sample(tmp_path, workers):
    root = write_root(tmp_path / "root", scenes={"scene-0061": 2})
    config = make_config(root, workers=workers)
    index = load_index(config.data)
    split = index.split("train")
    path = root / split.camera_file[1, 1].decode()
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(SampleError, match=rf"(?s){path.name}.*{split.tokens[1]}.*truncated"):
        list(eval_loader(config, index, "train", batch_size=1))


def test_what_is_too_large_for_a_file_of_a_sample_is_not_read(tmp_path):
    config = make_config(write_root(tmp_path / "root", scenes={"scene-0061": 1}))
    with (tmp_path / "root/samples/CAM_FRONT/scene-0061__CAM_FRONT__0.jpg").open("r+b") as file:
        file.truncate(1 << 40)  # without a block on the disk
    with pytest.raises(SampleError, match="CAM_FRONT__0.jpg of sample .*: it has 1099511627776 bytes, more than any"):
        next(eval_loader(config, load_index(config.data), "train", batch_size=1))


def test_input_size_must_fit_the_stride(root):
    config = make_config(root, image_height=40)
    with pytest.raises(DataError, match="divisible by 16, not 40×48"):
        train_loader(config, load_index(config.data))


def test_real_keyframes_load_at_full_size(shared_dir, tmp_path):
    config = Config()
    config.data.root, config.data.index_dir = str(shared_dir / "data/nuscenes_real"), str(tmp_path)
    config.data.workers = 0
    index = load_index(config.data)
    batch = next(train_loader(config, index))
    assert batch.images.shape == (1, 6, 480, 640, 3) and batch.rig.is_present.all()
    assert np.all(batch.images.reshape(6, -1).mean(axis=1) > 20)
    assert np.mean(batch.depth_m > 0) > 0.3
    semantics = batch.labels.semantics
    assert semantics.shape == (1, 200, 200, 16) and np.count_nonzero(semantics != FREE) == 4810
    config.data.labels = "occ3d"
    config.grid.frame, config.grid.voxel_size_m, config.grid.lower_m = "ego", 0.4, (-40.0, -40.0, -1.0)
    batch = next(eval_loader(config, index, "val", batch_size=1))
    assert 0 < batch.labels.camera_mask.mean() < 1


def test_a_full_size_sample_takes_at_most_8_mb_to_the_device(tmp_path):
    root = write_root(tmp_path / "root", scenes={"scene-0061": 1}, cameras=NUSCENES_CAMERAS)
    config = load_config_file("configs/kd.py")
    config.data.root, config.data.teacher_dir, config.data.workers = str(root), str(tmp_path / "teacher"), 0
    config.data.batch_size = 1
    index = load_index(config.data)
    # 52,290 and 43,518 voxels of the two real keyframes' teacher have a row of their own.
    write_teacher_folder(tmp_path / "teacher", index.split("train"), max_active_voxels=60_000)
    batch = next(train_loader(config, index))
    assert batch.images.shape == (1, 6, 480, 640, 3) and batch.labels.semantics.shape == (1, 200, 200, 16)
    assert batch.teacher.voxels.index.shape[1] > 60_000 and batch.depth_m is not None
    assert 6e6 < sum(leaf.nbytes for leaf in leaves(batch)) <= 8e6

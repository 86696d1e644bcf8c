"""The distillation loss on the compact teacher equals the one on a dense teacher, in less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from distillation_reference import GRID, make_teacher, random_student, reference_terms

from occjax.benchmark.dense_distillation import dense_distillation_terms
from occjax.benchmark.distillation_cost import measure_distillation
from occjax.config import Config, DistillConfig
from occjax.grid import SURROUNDOCC_GRID, VoxelGrid
from occjax.targets.codec import floored_log_probs
from occjax.targets.files import compact_teacher, sparse_from_probabilities
from occjax.targets.folder import TeacherLayout
from occjax.targets.moving import dense_log_probs

QUARTER = VoxelGrid("lidar", SURROUNDOCC_GRID.lower_m, 0.5, (100, 100, 16))
ALL = DistillConfig(voxel_kl=1.0, bev_kl=1.0, channel_wise=1.0)


def test_dense_terms_are_those_of_the_reference():
    teacher, (logits, adapted) = make_teacher(), random_student()
    found = dense_distillation_terms(logits[0], jnp.asarray(dense_log_probs(teacher, GRID.shape)), ALL)
    wanted = reference_terms(logits[0], teacher, adapted[0], ALL)
    assert set(found) == {"voxel_kl", "bev_kl", "channel_wise"}
    for name, value in found.items():
        np.testing.assert_allclose(value, wanted[name], rtol=1e-4, err_msg=name)
    assert set(dense_distillation_terms(logits[0], jnp.zeros((*GRID.shape, 18)), DistillConfig(bev_kl=1.0))) == {
        "bev_kl"
    }


def real_teacher(shared_dir):
    """A quarter of the real keyframe's dump, around the car and outwards: probabilities and their compact form."""
    path = shared_dir / "data/nuscenes_real/teacher_dump/occ3d_logits/train/000000_0_3d_logits_fp16.npz"
    with np.load(path) as file:
        probs = np.moveaxis(file["logits"][:, :100, :100], 0, -1).astype(np.float32)
    compact = compact_teacher("t", QUARTER, sparse_from_probabilities(probs))
    manifest = {
        "grid": QUARTER.to_dict(),
        "contents": {"voxels": True, "bev": False, "validity": False},
        "max_active_voxels": len(compact.codes.voxels.index),
    }
    return probs, TeacherLayout(manifest, QUARTER, capacity_factor=1.0).targets(compact, "t")


@pytest.mark.slow
def test_the_compact_form_needs_no_dense_teacher_and_changes_no_term(shared_dir):
    probs, teacher = real_teacher(shared_dir)
    config = Config()
    config.grid.shape = QUARTER.shape
    config.loss.distill = ALL
    cost = measure_distillation(config, teacher)
    compact, dense = cost["compact"], cost["dense"]
    tensor = 4 * probs.size
    assert compact.teacher_bytes < tensor / 40 and dense.teacher_bytes == tensor
    # Beside the student's own log-probabilities, which both need, there is no room for a teacher of that size.
    assert compact.working_bytes + tensor <= dense.working_bytes + dense.teacher_bytes
    for name, value in dense.terms.items():
        np.testing.assert_allclose(compact.terms[name], value, rtol=1e-4, err_msg=name)


@pytest.mark.slow
def test_the_real_dump_and_its_compact_form_give_the_same_loss_within_the_stated_kl(shared_dir):
    probs, teacher = real_teacher(shared_dir)
    logits = 2 * jax.random.normal(jax.random.key(0), probs.shape)
    for temperature in (1.0, 2.0):
        config = DistillConfig(voxel_kl=1.0, temperature=temperature, free_share=1.0)
        loss = jax.jit(lambda target, config=config: dense_distillation_terms(logits, target, config)["voxel_kl"])
        # A mean over voxels, whose teachers differ by 1e-3 nats of mean KL at most.
        dumped, coded = (float(loss(x)) for x in (floored_log_probs(probs), dense_log_probs(teacher, QUARTER.shape)))
        assert abs(dumped - coded) < 1e-3 * temperature**2

"""What a step applies and logs of the objective; the stand-in for the student predicts its own parameters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from distillation_reference import GRID, make_teacher, some_seen
from flax import nnx

from occjax.classes import NUM_CLASSES, OCC3D_CLASS_COUNTS
from occjax.config import Config, DepthConfig, DistillConfig, LossConfig
from occjax.label_sets import LABEL_SETS
from occjax.losses.distillation import BevAdapter, distillation_terms
from occjax.losses.total import supervised_terms
from occjax.train import step
from occjax.train.learner import Learner
from occjax.train.state import TrainState
from occjax.types import Batch, CameraRig, Predictions, VoxelLabels

SUPERVISED = {"cross_entropy": 2.0, "scene_class_affinity": 0.5, "lovasz": 1.5, "depth": 3.0}
DISTILLED = {"voxel_kl": 0.7, "bev_kl": 0.3, "channel_wise": 0.2, "bev_feature": 40.0}
VOXEL_TERMS = {"cross_entropy", "semantic_affinity", "geometric_affinity", "lovasz", *DISTILLED} - {"bev_feature"}
ADAPTER = nnx.split(BevAdapter(8, rngs=nnx.Rngs(0)))


@pytest.fixture(autouse=True, scope="module")
def stand_in():
    """Parameters are the predictions; the coverage is a number that each sample's noise decides."""

    def apply_student(_, params, batch_stats, images, rig, *, train, dropout_keys):
        coverage = images.mean((1, 2, 3, 4)) + jax.vmap(jax.random.uniform)(dropout_keys)
        return Predictions(params["voxels"], params["depth"], None, params["bev"], coverage), batch_stats

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step, "apply_student", apply_student)
        yield


def make_config() -> Config:
    config = Config()
    config.data.labels = "occ3d"  # which says what the cameras see
    config.grid.lower_m, config.grid.voxel_size_m, config.grid.shape = GRID.lower_m, GRID.voxel_size_m, GRID.shape
    config.model.depth = DepthConfig(min_m=0.5, max_m=8.5, bins=8)
    config.loss = LossConfig(**SUPERVISED, distill=DistillConfig(**DISTILLED))
    config.train.log_every = 2
    return config


def make_batch() -> Batch:
    r = np.random.default_rng(0)
    batch = Batch(
        images=r.integers(0, 256, (2, 1, 4, 4, 3)).astype(np.uint8),
        rig=CameraRig(None, None, None, None, np.ones((2, 1), bool)),
        depth_m=r.uniform(0, 9, (2, 1, 3, 3)).astype(np.float32),
        labels=VoxelLabels(
            r.integers(0, NUM_CLASSES, (2, *GRID.shape)).astype(np.uint8), np.stack([some_seen(), some_seen()[::-1]])
        ),
        teacher=jax.tree.map(lambda *x: np.stack(x), make_teacher(0), make_teacher(1)),
        sample_index=np.int32([5, 3]),
        is_valid=np.ones(2, bool),
    )
    return jax.tree.map(jnp.asarray, batch)


def make_params() -> dict:
    r = np.random.default_rng(1)
    shapes = {"voxels": (2, *GRID.shape, NUM_CLASSES), "depth": (2, 1, 3, 3, 8), "bev": (2, *GRID.shape[:2], 8)}
    student = {name: jnp.asarray(r.normal(size=shape), jnp.float32) for name, shape in shapes.items()}
    return {"student": student, "adapter": nnx.to_pure_dict(ADAPTER[1])}


@pytest.fixture(scope="module")
def learner() -> Learner:
    return Learner(make_config(), None, ADAPTER[0], optax.sgd(1.0), 5, OCC3D_CLASS_COUNTS)


@pytest.fixture(scope="module")
def run(learner):
    """The update of step `done` + 1 from the same parameters, and its scalars; the rate is 1, without momentum."""
    compiled = jax.jit(functools.partial(step.step, learner))

    def one_step(done=1):
        params = make_params()
        state = TrainState(jnp.int32(done), params, {}, optax.sgd(1.0).init(params), {})
        new, metrics = compiled(state.with_student(params["student"], {}), make_batch())
        return jax.tree.map(jnp.subtract, new.params, params), {k: float(v) for k, v in metrics.items()}

    return one_step


def norm(x) -> float:
    return float(np.linalg.norm(np.asarray(x, np.float64)))


@pytest.fixture(scope="module")
def jacobian(learner):
    """Gradient of each weighted term, by hand, to voxel logits, depth logits, BEV features and adapter."""
    batch, params, config = make_batch(), make_params(), learner.config
    weights = config.loss.weights() | config.loss.distill.weights()

    @jax.jit
    @functools.partial(jax.jacrev, argnums=(0, 1, 2, 3))
    def rows(voxels, depth, bev, adapter):
        predictions = Predictions(voxels, depth, None, bev, None)
        supervised = supervised_terms(
            predictions,
            batch,
            config=config.loss,
            label_set=LABEL_SETS["occ3d"],
            depth_config=config.model.depth,
        )
        adapted = bev @ adapter["linear"]["kernel"] + adapter["linear"]["bias"]
        distilled = distillation_terms(
            predictions, batch.teacher, adapted, config.loss.distill, GRID, batch.labels.camera_mask
        )
        return {name: weights[name] * value for name, value in (supervised | distilled).items()}

    return rows(*(params["student"][name] for name in ("voxels", "depth", "bev")), params["adapter"])


def test_the_update_is_the_sum_of_all_terms_of_supervision_and_distillation(run, jacobian):
    update, _ = run()
    summed = jax.tree.map(lambda *x: -sum(np.asarray(y, np.float64) for y in x), *jacobian.values())
    found = (*(update["student"][name] for name in ("voxels", "depth", "bev")), update["adapter"])
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(summed), strict=True):
        # A difference of parameters that are near 1: the seventh digit of these is all that float32 keeps.
        np.testing.assert_allclose(a, b, atol=1e-6)
    # Nothing pulls at what no camera sees, where the labels say so.
    seen = np.asarray(make_batch().labels.camera_mask)
    assert norm(found[0][~seen]) == 0 < norm(found[0][seen])
    # Without distillation, the update would be another one.
    assert norm(sum(jacobian[name][0] for name in VOXEL_TERMS & set(DISTILLED))) > 1e-3
    assert norm(found[2]) > 1e-3 and all(norm(x) > 1e-3 for x in jax.tree.leaves(update["adapter"]))


def test_logged_gradients_are_those_of_each_weighted_term_at_its_own_output(run, jacobian):
    _, metrics = run()
    place = dict.fromkeys(VOXEL_TERMS, 0) | {"depth": 1, "bev_feature": 2}
    assert set(place) == set(jacobian) == {name.split("/")[1] for name in metrics if name.startswith("gradient/")}
    at_voxels = {True: 0.0, False: 0.0}
    for name, of_outputs in jacobian.items():
        gradient = np.asarray(of_outputs[place[name]], np.float64)
        assert metrics[f"gradient/{name}"] == pytest.approx(norm(gradient), rel=1e-4) and norm(gradient) > 1e-4, name
        if name in VOXEL_TERMS:
            at_voxels[name in DISTILLED] += gradient
    supervision, distillation = at_voxels[False], at_voxels[True]
    assert metrics["gradient_ratio"] == pytest.approx(norm(distillation) / norm(supervision), rel=1e-4)
    cosine = np.sum(supervision * distillation) / norm(supervision) / norm(distillation)
    assert metrics["gradient_cosine"] == pytest.approx(cosine, abs=1e-4) and abs(cosine) > 1e-2


def test_what_costs_is_computed_where_it_is_logged(run):
    steps = [run(done)[1] for done in range(5)]
    # Every second step, and the last of the five.
    assert [metrics["gradient/lovasz"] > 0 for metrics in steps] == [False, True, False, True, True]
    # All of distillation's weight lies where the cameras see, since the mask is used.
    assert [metrics["distill_in_mask"] for metrics in steps] == pytest.approx([0, 1, 0, 1, 1])


def test_noise_belongs_to_the_sample(learner):
    batch, key = make_batch(), jax.random.key(0)

    def noise(batch, key):
        return np.asarray(step.forward(learner, make_params()["student"], {}, batch, key)[0].bev_coverage)

    first = noise(batch, key)
    turned = jax.tree.map(lambda x: x[::-1], batch)
    np.testing.assert_allclose(noise(turned, key), first[::-1], rtol=1e-5)
    # Of two samples with equal images, each draws its own.
    twice = batch._replace(images=jnp.repeat(batch.images[:1], 2, axis=0))
    assert abs(np.diff(noise(twice, key))) > 1e-3

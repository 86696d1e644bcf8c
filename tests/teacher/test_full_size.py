"""gs6400 with recipe weights on a real keyframe, stage by stage, against the published modules' numbers.

Tolerances are those of the reference's specification: a few times what two float32 implementations differ by. From the
third stage on, rows diverge where a rounding moves a Gaussian to the next cell.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from teacher_keyframe import keyframe
from teacher_recipe import checkpoint_shapes, recipe_weights

from occjax.targets.column_rule import topmost_distribution
from occjax.teacher.anchors import Gaussians, embed_anchors
from occjax.teacher.draws import draws_for
from occjax.teacher.encoder import EncoderState, Scene, run_operation
from occjax.teacher.farthest_points import farthest_points
from occjax.teacher.lifter import choose_bins, depth_logits, inside, unproject
from occjax.teacher.necks import depth_features, feature_pyramid
from occjax.teacher.preprocess import cropped_from_lidar, network_input
from occjax.teacher.resnet import resnet
from occjax.teacher.splat import probabilities
from occjax.teacher.teacher import CAMERAS_PER_POINT, load_teacher, voxelize
from occjax.teacher.variants import VARIANTS

pytestmark = pytest.mark.slow
VARIANT, CAMERAS = VARIANTS["gs6400"], 6
MODULES = ("deform", "ffn1", "spconv", "ffn2")
# Root mean square and largest error of each module's output, before it is added.
LIMITS = {
    "deform": (5e-5, 5e-3),
    "ffn1": (5e-5, 5e-3),
    "spconv": (3e-5, 1e-3),
    "ffn2": (5e-5, 3e-3),
    "x": (5e-5, 3e-3),
    "anchor": (1e-4, 1e-2),
}


@pytest.fixture(scope="module")
def goldens(shared_dir):
    def read(name):
        with np.load(shared_dir / f"goldens/teacher/teacher_seed7_{name}.npz") as file:
            return dict(file)

    return read


@pytest.fixture(scope="module")
def teacher():
    return load_teacher(recipe_weights(checkpoint_shapes(VARIANT), 7), None)


@pytest.fixture(scope="module")
def frame(shared_dir):
    return keyframe(shared_dir / "data/nuscenes_real")


@pytest.fixture(scope="module")
def sampled(goldens):
    """Compares a map [6, H, W, C] at the golden's places, and its mean and deviation."""
    front = goldens("front")

    def compare(name, x, *, rms, largest):
        x = np.moveaxis(np.asarray(x), -1, 1)
        error = x.ravel()[front[f"{name}_idx"]] - front[name]
        assert np.sqrt(np.square(error).mean()) < rms, name
        assert np.abs(error).max() < largest, name
        np.testing.assert_allclose([x.mean(), x.std()], front[f"{name}_meanstd"], rtol=1e-4, atol=1e-4)

    return compare


@pytest.fixture(scope="module")
def seen(teacher, frame, sampled):
    """Feature maps P3 to P6 and depth logits, once all that leads to them has been compared."""
    images, _ = frame
    run_resnet = jax.jit(lambda weights, images: resnet(weights, network_input(images)))
    pyramid, depth = jax.jit(feature_pyramid), jax.jit(depth_features)
    params, found = teacher.params, {}
    for name, key, neck in (("img_backbone", "images", pyramid), ("lifter_backbone", "depth", depth)):
        # Camera by camera, as the teacher runs: the maps of all in one backbone are a gigabyte.
        features = [run_resnet(params[key]["backbone"], images[n : n + 1]) for n in range(CAMERAS)]
        for level, maps in enumerate(zip(*features, strict=True)):
            sampled(f"{name}_C{level + 2}", np.concatenate(maps), rms=2e-5, largest=3e-4)
        found[key] = [neck(params[key]["neck"], maps) for maps in features]
    levels = tuple(jnp.concatenate(maps) for maps in zip(*found["images"], strict=True))
    for level, x in enumerate(levels):
        sampled(f"P{level + 3}", x, rms=5e-5, largest=5e-4)
    second = jnp.concatenate(found["depth"])
    sampled("second", second, rms=5e-5, largest=8e-4)
    return levels, depth_logits(params["depth"]["logits"], second)


@pytest.fixture(scope="module")
def scene(seen, frame):
    return Scene(seen[0], jnp.asarray(cropped_from_lidar(frame[1])))


@pytest.fixture(scope="module")
def anchors(goldens):
    return goldens("anchors_a") | goldens("anchors_b")


def test_input_and_matrices(frame, goldens, sampled):
    images, pixel_from_lidar = frame
    sampled("image", network_input(jnp.asarray(images)), rms=1e-6, largest=1e-6)
    np.testing.assert_allclose(cropped_from_lidar(pixel_from_lidar), goldens("front")["projection_mat"], rtol=1e-6)


def test_depths_and_candidates(seen, frame, goldens):
    front, logits = goldens("front"), seen[1]
    pixels = np.asarray(logits).reshape(-1, 129)[front["logit_pixels"]]
    np.testing.assert_allclose(pixels, front["logits"], rtol=0, atol=1e-4)
    u = np.random.default_rng([7, 1]).random((6, 108, 200)).astype(np.float32)
    bins, is_kept = choose_bins(logits, jnp.asarray(u), "drawn")
    flipped = np.flatnonzero(np.ravel(bins) != front["depth_index"].ravel())
    assert len(flipped) <= 100 and np.isin(flipped, front["F_margin_lt_1e-5"]).all()
    kept = np.unpackbits(front["kept"]).astype(bool)
    assert np.isin(np.flatnonzero(np.ravel(is_kept) != kept), front["kept_margin_lt_1e-4"]).all()

    # From the golden's bins, so that the candidates are the same ones.
    bins, is_kept = jnp.asarray(front["depth_index"], jnp.int32), jnp.asarray(kept.reshape(6, 108, 200))
    inverse = np.linalg.inv(cropped_from_lidar(frame[1]).astype(np.float64)).astype(np.float32)
    candidates = inside(unproject(bins, jnp.asarray(inverse)), is_kept)
    assert candidates.count == front["n_candidates"]
    points = np.asarray(candidates.points)
    np.testing.assert_allclose(points[front["candidate_idx"]], front["candidates"], rtol=0, atol=2e-5)
    chosen = farthest_points(candidates.points, jnp.arange(len(points)) < candidates.count, 4000)
    # A rounding decides between two that are equally far, and the next ones with it; hardly any is chosen by one alone.
    assert len(np.intersect1d(chosen, front["fps_index"])) >= 3990
    assert_greedy(points[: int(candidates.count)].astype(np.float64), np.asarray(chosen))


def assert_greedy(points, chosen):
    nearest = np.full(len(points), np.inf)
    for last, following in zip(chosen[:-1], chosen[1:], strict=True):
        nearest = np.minimum(nearest, np.square(points - points[last]).sum(1))
        assert nearest[following] >= nearest.max() * (1 - 1e-5)


def run_modules(teacher, stage, state, scene):
    """What each module of a stage gives, and the state after it."""
    embedding = jax.jit(embed_anchors)(teacher.params["embedding"], state.anchors)
    run, outputs, saved = jax.jit(run_operation, static_argnums=(0, 5, 6)), [], state.features
    for name, weights in zip(VARIANT.stages[stage], teacher.params["stages"][stage], strict=True):
        if name == "save":
            saved = state.features
        elif name == "add":
            state = state._replace(features=state.features + saved)
        else:
            state = run(name, weights, state, embedding, scene, VARIANT, 2)
            if name in ("deformable", "ffn", "spconv"):
                outputs.append(state.features)
    found = dict(zip(MODULES, outputs, strict=True)) | {"x": state.features, "anchor": state.anchors}
    return found, state, embedding


def row_errors(found, golden, rows):
    return np.abs(np.asarray(found)[rows] - golden)


def require_stage(found, golden, stage):
    for name, (rms, largest) in LIMITS.items():
        error = row_errors(found[name], golden[f"{name}_{stage}"], golden["rows"])
        # Up to 2 % of the rows may have been moved to another cell or out of an image by a rounding.
        error = error[np.argsort(error.max(-1))[: int(0.98 * len(error))]]
        assert np.sqrt(np.square(error).mean()) < rms, name
        assert error.max() < largest, name


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_stage_alone(stage, teacher, scene, anchors, goldens):
    features = np.random.default_rng([7, 50 + stage]).normal(0, 1, (6400, 128)).astype(np.float32)
    state = EncoderState(jnp.asarray(features), jnp.asarray(anchors[f"anchor_{stage}"]), jnp.int32(0))
    found, state, _ = run_modules(teacher, stage, state, scene)
    require_stage(found, goldens("stages_inject"), stage)
    assert state.most_cameras <= CAMERAS_PER_POINT


def test_the_chain_of_stages_and_the_head(teacher, scene, anchors, goldens):
    golden, head = goldens("stages_chain"), goldens("head")
    rows, errors = golden["rows"], []
    state = EncoderState(teacher.params["anchors"]["features"], jnp.asarray(anchors["anchor_0"]), jnp.int32(0))
    for stage in range(4):
        found, state, embedding = run_modules(teacher, stage, state, scene)
        if stage == 0:
            np.testing.assert_allclose(np.asarray(embedding)[rows], golden["embed_0"], rtol=0, atol=5e-5)
            require_stage(found, golden, 0)
        errors.append(row_errors(found["x"], golden[f"x_{stage}"], rows))
    assert np.sqrt(np.square(errors[1]).mean()) < 5e-4
    assert np.sqrt(np.square(errors[2]).mean()) < 5e-3
    last = errors[3].max(-1)
    assert np.median(last) < 1e-3 and (last < 1e-2).mean() >= 0.75
    values, _ = voxelize(state.anchors, None, variant=VARIANT)
    assert (np.asarray(values).argmax(-1) == head["argmax"]).mean() >= 0.99
    assert abs(1 - np.asarray(values[..., 17], np.float64).mean() - head["mean_p_occ"]) < 2e-3


def test_head_from_golden_gaussians(goldens):
    fields, head = goldens("gaussians"), goldens("head")
    fields["opacities"] = fields["opacities"][:, 0]
    gaussians = Gaussians(**{name: jnp.asarray(value) for name, value in fields.items()})
    found = jax.jit(partial(probabilities, variant=VARIANT))(gaussians)
    values, density = np.asarray(found.values).reshape(-1, 18), np.ravel(found.density)
    for voxels, suffix in ((head["voxels"], ""), (head["voxels_occ"], "_occvox")):
        np.testing.assert_allclose(values[voxels], head[f"P{suffix}"], rtol=0, atol=5e-5)
        np.testing.assert_allclose(density[voxels], head[f"density{suffix}"], rtol=0, atol=1e-4)
    differs = np.flatnonzero(values.argmax(-1) != head["argmax"].ravel())
    assert np.isin(differs, head["ambiguous"]).all()
    assert abs(np.asarray(found.occupied, np.float64).mean() - head["mean_p_occ"]) < 1e-5
    seen = np.asarray(topmost_distribution(found.values, jnp)).reshape(-1, 18)
    np.testing.assert_allclose(seen[head["bev_cells"]], head["bev_top"], rtol=0, atol=5e-5)


def test_the_whole_in_one_call(teacher, frame, goldens):
    u = np.random.default_rng([7, 1]).random((6, 108, 200)).astype(np.float32)
    draws = draws_for("any", 0, VARIANT)._replace(u=u)
    output = teacher(*frame, draws)
    assert output.values.dtype == np.float16 and output.values.shape == (200, 200, 16, 18)
    assert abs(output.candidates - int(goldens("front")["n_candidates"])) <= 100
    # A rounding moves one point, and all farthest points after it: voxel by voxel no two implementations agree (86 %
    # here, 82 % with other draws), but in how much is occupied, and by what.
    head, values = goldens("head"), np.asarray(output.values_float32)
    assert abs(1 - values[..., 17].mean(dtype=np.float64) - head["mean_p_occ"]) < 2e-3
    found = np.bincount(values.argmax(-1).ravel(), minlength=18)
    assert np.abs(found - head["hist"]).sum() / 2 < 0.005 * values[..., 0].size

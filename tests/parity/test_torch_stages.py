"""Stage by stage, forward and backward, the student equals the eager PyTorch reference with the same weights."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from small import GRID, make_rig, small_config

from occjax.convert.torch_names import student_entries
from occjax.models.student import Student, apply_student, split_student

torch = pytest.importorskip("torch")
from torch_student import TorchStudent  # noqa: E402

ROTATION = np.deg2rad(14.0)


def augmented_rig():
    """Images scaled, shifted and turned; BEV turned, scaled and flipped."""
    rig = make_rig((10.0, 130.0, 250.0), size=(48, 80), batch=2)
    c, s = np.cos(0.1), np.sin(0.1)
    affine = np.float32([[0.9 * c, -0.8 * s, 3.0], [0.9 * s, 0.8 * c, -2.0], [0, 0, 1]])
    c, s = np.cos(ROTATION), np.sin(ROTATION)
    bev = np.float32([[-1.04 * c, 1.04 * s, 0], [1.04 * s, 1.04 * c, 0], [0, 0, 1.04]])
    return rig._replace(
        input_from_pixel=np.tile(affine, (2, 3, 1, 1)), augmented_from_grid=np.stack([bev, np.eye(3, dtype=np.float32)])
    )


def config_for(depth, splat):
    config = small_config()
    config.backbone.depth, config.view_transform.splat = depth, splat
    config.depth.camera_norm = "batch"
    return config


@pytest.fixture(scope="module", params=[(18, "sum"), (50, "mean")])
def both(request):
    """Both models with the same weights, the images and the rig."""
    torch.manual_seed(0)
    config = config_for(*request.param)
    theirs = TorchStudent(config, GRID)
    with torch.no_grad():
        for name, value in theirs.named_buffers():
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif name.endswith("running_mean"):
                value.normal_(0, 0.1)
    images = torch.randn(2, 3, 3, 48, 80)
    graphdef, params, stats = split_student(Student(config, GRID, rngs=nnx.Rngs(0)))
    state_dict = {key: value.numpy().copy() for key, value in theirs.state_dict().items()}
    arrays = {entry.ours: entry.from_torch(state_dict[entry.theirs]) for entry in student_entries(config)}

    def fill(tree, path=()):
        return {k: fill(v, (*path, k)) for k, v in tree.items()} if isinstance(tree, dict) else jnp.array(arrays[path])

    ours = (graphdef, fill(params), fill(stats))
    return config, theirs, ours, images, jnp.asarray(images.permute(0, 1, 3, 4, 2).numpy()), augmented_rig()


def as_tensors(rig):
    return {name: torch.as_tensor(value) for name, value in rig._asdict().items()}


def probed(out, probes):
    """A scalar that every voxel and every depth bin moves, of what the reference returns."""
    return sum((value * probe.to(value.dtype)).mean() for value, probe in zip(out[:2], probes, strict=True))


def compare(out, theirs):
    logits, depth_logits, lifted, bev = (value.detach().numpy() for value in theirs)
    np.testing.assert_allclose(out.depth_logits, depth_logits.transpose(0, 1, 3, 4, 2), atol=2e-4)
    np.testing.assert_allclose(out.lifted_features, lifted.transpose(0, 3, 2, 1), atol=2e-3)
    np.testing.assert_allclose(out.bev_features, bev.transpose(0, 3, 2, 1), atol=2e-3)
    np.testing.assert_allclose(out.voxel_logits, logits, atol=2e-3)


def test_evaluation(both):
    _, theirs, (graphdef, params, stats), images, our_images, rig = both
    theirs.eval()
    with torch.no_grad():
        expected = theirs(images, as_tensors(rig))
    run = jax.jit(lambda p, s, i: apply_student(graphdef, p, s, i, rig, train=False)[0])
    compare(run(params, stats, our_images), expected)


def test_training_pass_statistics_and_gradients(both):
    config, theirs, (graphdef, params, stats), images, our_images, rig = both
    theirs.train()
    before = {key: value.clone() for key, value in theirs.state_dict().items()}
    exact = copy.deepcopy(theirs).double()
    expected = theirs(images, as_tensors(rig))
    probes = [torch.randn(value.shape) for value in expected[:2]]
    probed(expected, probes).backward()
    probed(exact(images.double(), as_tensors(rig)), probes).backward()
    probe_voxel, probe_depth = probes[0].numpy(), probes[1].permute(0, 1, 3, 4, 2).numpy()

    def loss(params):
        out, moved = apply_student(graphdef, params, stats, our_images, rig, train=True)
        value = (out.voxel_logits * probe_voxel).mean() + (out.depth_logits * probe_depth).mean()
        return value, (out, moved)

    grads, (out, moved) = jax.jit(jax.grad(loss, has_aux=True))(params)
    compare(out, expected)
    their_state = theirs.state_dict()
    their_params, exact_params = (dict(model.named_parameters()) for model in (theirs, exact))

    def leaf(tree, path):
        for key in path:
            tree = tree[key]
        return np.asarray(tree)

    for entry in student_entries(config):
        if entry.ours[-1] in ("mean", "var"):
            np.testing.assert_allclose(
                entry.to_torch(leaf(moved, entry.ours)),
                their_state[entry.theirs],
                rtol=2e-3,
                atol=1e-3,
                err_msg=entry.theirs,
            )
            continue
        if exact_params[entry.theirs].grad is None:
            assert not leaf(grads, entry.ours).any(), entry.theirs
            continue
        gradient = exact_params[entry.theirs].grad.numpy()

        def off(value, gradient=gradient):
            """Relative to the whole array: single entries near zero are sums of cancelling terms."""
            return np.linalg.norm(value - gradient) / (np.linalg.norm(gradient) + 1e-5)

        # Through fifty normalised layers over a few pixels, float32 gradients are percents off the float64 one:
        # torch's own say how far is far.
        ours, torchs = off(entry.to_torch(leaf(grads, entry.ours))), off(their_params[entry.theirs].grad.numpy())
        assert ours < 5e-3 + 3 * torchs, f"{entry.theirs}: gradient off by {ours:.1e}, torch's by {torchs:.1e}"
    theirs.load_state_dict(before)

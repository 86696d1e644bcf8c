"""Depth net: what it is told about the cameras, in training and in evaluation alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from small import make_rig

from occjax.config import DepthConfig
from occjax.configs import kd
from occjax.data.augment import plain_resize, sample_bev_augmentation, sample_image_augmentation
from occjax.models.depth_net import DepthNet, camera_vector, gated
from occjax.models.student import split_student

INPUT = (640, 480)
YAWS_DEG = (0, 55, 110, 180, 250, 305)


def rig_of(recorded_size, augment=None, rng=None):
    """A rig of one sample whose cameras recorded `recorded_size` (width, height), augmented where ranges are given."""
    rig = make_rig(YAWS_DEG, size=recorded_size[::-1])
    resize = plain_resize(recorded_size, INPUT)
    images, bev = [resize] * len(YAWS_DEG), np.eye(3)
    if augment is not None:
        images = [sample_image_augmentation(rng, augment, width=640, height=480) @ resize for _ in YAWS_DEG]
        bev = sample_bev_augmentation(rng, augment)
    return rig._replace(input_from_pixel=np.float32(images)[None], augmented_from_grid=np.float32(bev)[None])


def stacked(rigs):
    return jax.tree.map(lambda *arrays: jnp.stack(arrays), *rigs)


def small_net(norm, bins=4):
    net = DepthNet(6, 4, DepthConfig(channels=8, bins=bins, dropout=0.0, camera_norm=norm), rngs=nnx.Rngs(0))
    return split_student(net)


@pytest.fixture(scope="module")
def augmented():
    """kd.py's augmentation of one sample, 300 times."""
    rng = np.random.default_rng(0)
    return [rig_of((1600, 900), kd.get_config().augment, rng) for _ in range(300)]


def normalized_numbers(norm, rigs, evaluation_rigs):
    """The camera numbers of each of the updates [U, N, 27] and, after them, of the rigs of the evaluation."""
    graphdef, params, stats = small_net(norm)

    def update(stats, rig):
        net = nnx.merge(graphdef, params, stats)
        numbers = net.normalized(camera_vector(rig), train=True)
        return nnx.to_pure_dict(nnx.state(net, nnx.BatchStat)), numbers

    def evaluated(stats, rig):
        return nnx.merge(graphdef, params, stats).normalized(camera_vector(rig), train=False)

    @jax.jit
    def run(stats, rigs, evaluation_rigs):
        stats, trained = jax.lax.scan(update, stats, rigs)
        return trained, jax.vmap(evaluated, (None, 0))(stats, evaluation_rigs)

    return jax.tree.map(np.asarray, run(stats, stacked(rigs), stacked(evaluation_rigs)))


def test_evaluation_meets_camera_numbers_that_training_has_seen(augmented):
    evaluation = [rig_of((1600, 900)), rig_of((320, 180))]
    trained, evaluated = normalized_numbers("fixed", augmented, evaluation)
    assert np.abs(trained).max() < 10 and np.abs(evaluated).max() < 10
    # Fixed means fixed: of the matrices alone, without a trace of the updates.
    by_hand = camera_vector(rig_of((1600, 900)))[0]
    np.testing.assert_allclose(evaluated[0][0, :4], by_hand[:4] / 1000, rtol=1e-6)
    np.testing.assert_allclose(evaluated[0][0, 15:], by_hand[15:], rtol=1e-6)
    # The BEV augmentation (11 is a cosine times a scale times a sign) is there to be read, and differs by sample.
    assert trained[:, 0, 13].std() > 0.5

    trained, evaluated = normalized_numbers("batch", augmented, evaluation)
    assert np.abs(trained[:, :, 10:15]).max() < 0.01
    assert np.abs(evaluated[0]).max() > 100


def losses_after_training(norm, rigs):
    """What a gate and a linear layer lose on a plain sample under batch and under running statistics, after training.

    They learn which depth each camera sees, from one augmented sample per update.
    """
    graphdef, params, stats = small_net(norm)
    features = jnp.ones((len(YAWS_DEG), 1, 1, 8))
    target = jax.nn.one_hot(jnp.arange(len(YAWS_DEG)) % 4, 4)[:, None, None]  # [N, 1, 1, D]

    def loss(params, stats, rig, train):
        net = nnx.merge(graphdef, params, stats)
        logits = net.depth(gated(features, net.depth_gate(net.normalized(camera_vector(rig), train=train))))
        entropy = -jnp.sum(target * jax.nn.log_softmax(logits)) / len(YAWS_DEG)
        return entropy, nnx.to_pure_dict(nnx.state(net, nnx.BatchStat))

    def update(carry, rig):
        params, stats = carry
        grads, stats = jax.grad(loss, has_aux=True)(params, stats, rig, True)
        return (jax.tree.map(lambda p, g: p - 0.3 * g, params, grads), stats), None

    @jax.jit
    def run(params, stats, rigs, plain):
        (params, stats), _ = jax.lax.scan(update, (params, stats), rigs)
        return [loss(params, stats, plain, train)[0] for train in (True, False)]

    return np.array(run(params, stats, stacked(rigs), jax.tree.map(jnp.asarray, rig_of((1600, 900)))))


def test_losses_agree_under_batch_and_running_statistics(augmented):
    under_batch, under_running = losses_after_training("fixed", augmented)
    assert under_running == pytest.approx(under_batch, rel=0.1)
    under_batch, under_running = losses_after_training("batch", augmented)
    assert under_running > 1.5 * under_batch

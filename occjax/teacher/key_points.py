"""Key points: where in space a Gaussian looks, seven fixed places along its axes and a few that its features choose."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from occjax.teacher.anchors import ROTATION, means_m, own_from_lidar, scales_m, sigmoid
from occjax.teacher.layers import PRECISION, Weights, linear
from occjax.teacher.variants import TeacherVariant

# In standard deviations: the mean, and both ways along each axis.
_AXES = 0.45 * np.eye(3, dtype=np.float32)
FIXED = np.concatenate([np.zeros((1, 3), np.float32), np.stack([_AXES, -_AXES], axis=1).reshape(6, 3)])


def key_points(
    weights: Weights, anchors: Float[Array, "g c"], features: Float[Array, "g d"], variant: TeacherVariant
) -> Float[Array, "g p 3"]:
    """Points in the frame of LIDAR_TOP, metres: fixed ones, then learned ones."""
    g = len(anchors)
    learned = (sigmoid(linear(weights, features)) - 0.5) * variant.learned_reach
    offsets = jnp.concatenate(
        [jnp.broadcast_to(FIXED, (g, *FIXED.shape)), learned.reshape(g, variant.learned_points, 3)], axis=1
    )
    offsets = offsets * scales_m(anchors, variant)[:, None]  # [G, P, 3], along the Gaussian's own axes
    # Offsets as rows times the matrix: the transpose of it takes them to the frame.
    turned = jnp.matmul(offsets, own_from_lidar(anchors[:, ROTATION]), precision=PRECISION)
    return means_m(anchors)[:, None] + turned

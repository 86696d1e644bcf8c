"""Depth supervision: the lift's depth distribution against the nearest LiDAR return of each feature pixel."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from occjax.config import DepthConfig
from occjax.losses.masked import masked_mean


def depth_loss(
    depth_logits: Float[Array, "b n h w d"],
    depth_m: Float[Array, "b n h w"],
    is_present: Bool[Array, "b n"],
    config: DepthConfig,
) -> Float[Array, ""]:
    """Binary cross-entropy of every bin, summed over bins, averaged over pixels with a return in range (BEVDepth).

    Args:
      depth_logits: before the softmax over bins.
      depth_m: metres along the optical axis; 0 where no point fell. Counted from config.min_m up to, not including,
        config.max_m.
      is_present: cameras that count.
      config: bins; bin i covers min_m + [i, i + 1) · (max_m - min_m) / bins.
    """
    bin_m = (config.max_m - config.min_m) / config.bins
    has_return = (depth_m >= config.min_m) & (depth_m < config.max_m) & (depth_m > 0) & is_present[..., None, None]
    # Clipped for the pixels that do not count, and for a depth that rounding puts at max_m.
    target = jnp.clip(jnp.floor((depth_m - config.min_m) / bin_m), 0, config.bins - 1).astype(jnp.int32)
    log_probs = jax.nn.log_softmax(depth_logits.astype(jnp.float32))
    # Away from 1, where the logarithm of the rest has no finite value.
    log_rest = jnp.log1p(-jnp.minimum(jnp.exp(log_probs), 1 - 1e-6))
    is_target = target[..., None] == jnp.arange(config.bins)  # [B, N, h, w, D]
    per_pixel = -jnp.sum(jnp.where(is_target, log_probs, log_rest), axis=-1)
    return masked_mean(per_pixel, has_return)

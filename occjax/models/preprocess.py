"""Preprocessing of decoded images, on the device: colours distorted in training, then normalised."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PRNGKeyArray, UInt8

# ImageNet statistics of RGB in 0..255, as the backbone's weights expect.
IMAGE_MEAN = (123.675, 116.28, 103.53)
IMAGE_STD = (58.395, 57.12, 57.375)

# Ranges of the photometric distortion that SSD introduced and detectors have used since.
BRIGHTNESS = 32.0
CONTRAST = SATURATION = (0.5, 1.5)
HUE_DEG = 18.0
PROBABILITY = 0.5
CHANNEL_ORDERS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


def normalize_images(images: UInt8[Array, "*axes 3"] | Float[Array, "*axes 3"]) -> Float[Array, "*axes 3"]:
    """(RGB - mean) / std, float32, from RGB in 0..255."""
    # By whole rows of pixels: what has three numbers in its last axis is slow where it is not fused with what follows.
    rows = images.astype(jnp.float32).reshape(*images.shape[:-2], -1)
    mean, std = (
        jnp.asarray(np.tile(np.asarray(values, np.float32), images.shape[-2])) for values in (IMAGE_MEAN, IMAGE_STD)
    )
    return ((rows - mean) / std).reshape(images.shape)


def distort_colors(
    images: UInt8[Array, "b n h w 3"] | Float[Array, "b n h w 3"], keys: Key[Array, "b"]
) -> Float[Array, "b n h w 3"]:
    """Random brightness, contrast, saturation, hue and channel order, each with probability one half per image.

    Args:
      images: RGB in 0..255.
      keys: typed random keys [B], one per sample; each camera's draw follows from its sample's key and its position.

    Returns:
      float32 RGB in 0..255. Contrast comes before or after the steps in HSV space, at random (SSD, Liu et al. 2016).
    """
    return jax.vmap(jax.vmap(distort_image))(images.astype(jnp.float32), camera_keys(keys, images.shape[1]))


def camera_keys(keys: Key[Array, "b"], cameras: int) -> Key[Array, "b n"]:
    """A random key for each camera, from its sample's key and its position.

    So what one camera draws depends neither on the other samples of the batch nor on how many cameras there are.
    """
    return jax.vmap(lambda key: jax.vmap(lambda n: jax.random.fold_in(key, n))(jnp.arange(cameras)))(keys)


def distort_image(image: Float[Array, "h w 3"], key: PRNGKeyArray) -> Float[Array, "h w 3"]:
    """One image's distortion; see `distort_colors`."""
    keys = jax.random.split(key, 7)
    active = jax.random.bernoulli(keys[0], PROBABILITY, (5,))
    brightness = jnp.where(active[0], jax.random.uniform(keys[1], (), minval=-BRIGHTNESS, maxval=BRIGHTNESS), 0.0)
    contrast = jnp.where(active[1], jax.random.uniform(keys[2], (), minval=CONTRAST[0], maxval=CONTRAST[1]), 1.0)
    saturation = jnp.where(active[2], jax.random.uniform(keys[3], (), minval=SATURATION[0], maxval=SATURATION[1]), 1.0)
    hue_deg = jnp.where(active[3], jax.random.uniform(keys[4], (), minval=-HUE_DEG, maxval=HUE_DEG), 0.0)
    order = jnp.where(active[4], jax.random.randint(keys[5], (), 0, len(CHANNEL_ORDERS)), 0)
    contrast_first = jax.random.bernoulli(keys[6])

    # Contrast is multiplied at both places, by 1 at one of them: under vmap a branch is computed both ways.
    image = jnp.clip(image + brightness, 0, 255)
    image = jnp.clip(image * jnp.where(contrast_first, contrast, 1.0), 0, 255)
    image = shift_hue_saturation(image, hue_deg, saturation)
    image = jnp.clip(image * jnp.where(contrast_first, 1.0, contrast), 0, 255)
    return image[..., jnp.array(CHANNEL_ORDERS)[order]]


def shift_hue_saturation(
    image: Float[Array, "h w 3"], hue_deg: Float[Array, ""], saturation: Float[Array, ""]
) -> Float[Array, "h w 3"]:
    """Turns the hue by degrees and scales the saturation (clipped to 1) in HSV space; RGB in 0..255 in and out."""
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    value = jnp.max(image, axis=-1)
    chroma = value - jnp.min(image, axis=-1)
    # A grey pixel has no hue: any serves, since its chroma of 0 multiplies it.
    safe = jnp.where(chroma > 0, chroma, 1.0)
    # Hue in sixths of the circle.
    hue = jnp.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    hue = jnp.where(value == red, (green - blue) / safe, hue)
    hue = hue + hue_deg / 60
    chroma = jnp.minimum(chroma * saturation, value)

    # The six sectors of the usual conversion in one expression, without a branch per pixel.
    def channel(offset):
        position = jnp.mod(offset + hue, 6)
        return value - chroma * jnp.clip(jnp.minimum(position, 4 - position), 0, 1)

    return jnp.stack([channel(5.0), channel(3.0), channel(1.0)], axis=-1)

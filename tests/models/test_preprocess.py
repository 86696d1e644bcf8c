"""Colours are distorted as a reference implementation does, by each image's own draw, and normalised."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from occjax.models.preprocess import IMAGE_MEAN, IMAGE_STD, distort_colors, normalize_images, shift_hue_saturation


def random_images(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3)).astype(np.uint8)


def test_normalisation():
    images = random_images(1, 2, 4, 5)
    expected = (images - np.array(IMAGE_MEAN)) / IMAGE_STD
    np.testing.assert_allclose(normalize_images(jnp.asarray(images)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("hue_deg", "saturation"), [(0, 1), (12, 1), (-18, 1), (0, 0.5), (7, 1.5)])
def test_hue_and_saturation_against_colorsys(hue_deg, saturation):
    image = random_images(6, 5).astype(np.float32)
    image[0, 0], image[0, 1], image[0, 2] = 0, 255, (200, 200, 10)
    out = shift_hue_saturation(jnp.asarray(image), jnp.float32(hue_deg), jnp.float32(saturation))
    for pixel in np.ndindex(6, 5):
        h, s, v = colorsys.rgb_to_hsv(*image[pixel] / 255)
        expected = np.multiply(colorsys.hsv_to_rgb((h + hue_deg / 360) % 1, min(1, s * saturation), v), 255)
        np.testing.assert_allclose(out[pixel], expected, atol=1e-2)


def test_draws_follow_the_key_and_differ_between_images():
    images = jnp.asarray(np.broadcast_to(random_images(4, 4), (2, 3, 4, 4, 3)))
    keys = jax.random.split(jax.random.key(3), 2)
    first, again = distort_colors(images, keys), distort_colors(images, keys)
    np.testing.assert_array_equal(first, again)
    flat = np.asarray(first).reshape(6, -1)
    assert len(np.unique(flat.round(2), axis=0)) >= 5
    np.testing.assert_array_equal(distort_colors(images[1:], keys[1:]), first[1:])


def test_range_and_share_of_untouched_images():
    images = jnp.asarray(random_images(256, 1, 2, 2))
    out = np.asarray(distort_colors(images, jax.random.split(jax.random.key(0), 256)))
    assert out.min() >= 0 and out.max() <= 255
    # Five steps, each left out with probability one half; the identical channel order adds a little.
    untouched = np.mean(np.abs(out - np.asarray(images, np.float32)).max(axis=(1, 2, 3, 4)) < 1e-2)
    assert 0.01 < untouched < 0.08
    # Brightness alone moves the mean by at most 32.
    assert np.abs(out.mean() - np.asarray(images).mean()) < 16

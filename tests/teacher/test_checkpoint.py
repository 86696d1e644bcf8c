"""What a checkpoint must hold to be a teacher's, and what is said of one that is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from teacher_recipe import checkpoint_shapes, shapes_of_lines

from occjax.teacher.checkpoint import CheckpointError, buffers, weights_from_checkpoint
from occjax.teacher.variants import VARIANTS, UnknownVariantError, variant_named, variant_of_shapes

# Learned parameters as the authors' modules have them, without the statistics of BatchNorm.
PARAMETERS = {
    "gs25600": 124_943_205,
    "gs12800": 122_984_805,
    "gs6400": 121_993_605,
    "gs144000": 75_491_510,
    "gs25600_solid": 57_087_799,
}


def entries_of(name):
    """A checkpoint of zeros that take no memory, with the right constants."""
    variant = VARIANTS[name]
    zeros = {key: np.broadcast_to(np.float32(0), shape) for key, shape in checkpoint_shapes(variant).items()}
    return zeros | buffers(variant)


@pytest.mark.parametrize("name", VARIANTS)
def test_parameters_are_as_many_as_published(name):
    variant = VARIANTS[name]
    constants = buffers(variant)
    learned = {
        key: shape
        for key, shape in checkpoint_shapes(variant).items()
        if "running_" not in key and (key not in constants)
    }
    assert sum(int(np.prod(shape)) for shape in learned.values()) == PARAMETERS[name]


@pytest.mark.parametrize("name", VARIANTS)
def test_names_and_shapes_are_the_published_ones(name, shared_dir):
    lines = (shared_dir / f"goldens/teacher/teacher_state_dict_{name}.txt").read_text().splitlines()
    published = {k: v for k, v in shapes_of_lines(lines).items() if not k.endswith("num_batches_tracked")}
    assert checkpoint_shapes(VARIANTS[name]) == published
    assert variant_of_shapes(published) == VARIANTS[name]


@pytest.fixture(scope="module")
def loaded():
    """Weights of a checkpoint of ones, but for what the test is about."""
    arrays = entries_of("gs25600_solid")
    r = np.random.default_rng(0)
    block = "img_backbone.layer3.7"
    named = {
        f"{block}.{name}": r.uniform(0.5, 1.5, arrays[f"{block}.{name}"].shape).astype(np.float32)
        for name in ("conv2.weight", "bn2.weight", "bn2.bias", "bn2.running_mean", "bn2.running_var")
    }
    named["head.empty_scalar"] = np.float32([7])
    arrays |= named | {"img_backbone.bn1.num_batches_tracked": np.array(3)}
    return named, block, weights_from_checkpoint(arrays, None, backbone_dtype="bfloat16")


def test_batch_norm_is_part_of_the_convolution(loaded):
    named, block, (_, weights) = loaded
    conv = weights["images"]["backbone"]["stages"][2]["others"]["conv2"]
    # Block 7 is the seventh of the others.
    kernel, bias = conv["kernel"][6].astype(np.float32), conv["bias"][6]
    factor = named[f"{block}.bn2.weight"] / np.sqrt(named[f"{block}.bn2.running_var"] + 1e-5)
    expected = (named[f"{block}.conv2.weight"] * factor[:, None, None, None]).transpose(2, 3, 1, 0)
    np.testing.assert_allclose(kernel, expected.reshape(9, 256, 256), rtol=1e-2)  # bfloat16
    np.testing.assert_allclose(
        bias, named[f"{block}.bn2.bias"] - named[f"{block}.bn2.running_mean"] * factor, rtol=1e-5, atol=1e-6
    )


def test_only_kernels_that_multiply_features_are_rounded(loaded):
    _, _, (variant, weights) = loaded
    assert variant.name == "gs25600_solid"
    assert weights["empty_value"] == 7
    backbone = weights["images"]["backbone"]
    assert backbone["stem"]["kernel"].dtype == jnp.bfloat16
    assert backbone["stages"][2]["first"]["offset"]["kernel"].dtype == np.float32
    rounded = {x.dtype for x in jax.tree.leaves(backbone)}
    assert rounded == {jnp.dtype(jnp.bfloat16), np.dtype(np.float32)}
    assert {x.dtype for x in jax.tree.leaves({**weights, "images": ()})} == {np.dtype(np.float32)}


def test_everything_that_is_wrong_is_listed_at_once():
    arrays = entries_of("gs6400")
    missing = [key for key in arrays if key.startswith("img_backbone.layer3.5.")]
    arrays = {key: value for key, value in arrays.items() if key not in missing}
    arrays["extra.weight"] = np.zeros(3, np.float32)
    arrays["lifter.projection.1.bias"] = np.zeros(128, np.float32)
    arrays["encoder.layers.3.weight"] = np.full(128, np.nan, np.float32)
    arrays["encoder.layers.3.bias"] = np.full(128, 1e300)  # finite, but not in float32
    arrays["img_backbone.bn1.running_var"] = np.full(64, -1e-3, np.float32)
    arrays["encoder.layers.9.grid_size"] = np.full(3, 0.5, np.float32)
    with pytest.raises(CheckpointError) as error:
        weights_from_checkpoint(arrays, "gs6400")
    message = str(error.value)
    assert f"missing: {len(missing)} in all" in message
    assert message.count("missing: img_backbone") == 10
    assert "unexpected: extra.weight" in message
    assert "shape: lifter.projection.1.bias is (128,), the model needs (129,)" in message
    assert "not finite: encoder.layers.3.weight" in message and "not finite: encoder.layers.3.bias" in message
    assert "a variance below 0: img_backbone.bn1.running_var" in message
    assert "encoder.layers.9.grid_size is [0.5, 0.5, 0.5], the model has [1.0, 1.0, 1.0]" in message


def test_a_backbone_alone_is_called_that():
    arrays = {key: value for key, value in entries_of("gs6400").items() if key.startswith("img_backbone.")}
    for prefix in ("img_backbone.", "backbone."):
        renamed = {key.replace("img_backbone.", prefix): value for key, value in arrays.items()}
        with pytest.raises(CheckpointError, match="image backbone alone"):
            weights_from_checkpoint(renamed, "gs6400")


def test_the_name_must_be_that_of_the_shapes():
    with pytest.raises(CheckpointError, match="are those of gs12800, not gs6400; choose gs12800"):
        weights_from_checkpoint(entries_of("gs12800"), "gs6400")
    with pytest.raises(UnknownVariantError, match="choose one of gs25600"):
        variant_named("gs100")
    with pytest.raises(UnknownVariantError, match="as in none of"):
        weights_from_checkpoint(entries_of("gs12800") | {"lifter.anchor": np.zeros((5, 25))}, None)
    # With a name, it is one of the things that are wrong.
    with pytest.raises(CheckpointError, match="shape: lifter.anchor"):
        weights_from_checkpoint(entries_of("gs12800") | {"lifter.anchor": np.zeros((5, 25))}, "gs12800")

"""ResNet-10, -18, -34, -50: images become feature maps at strides 4, 8, 16, 32 (He et al. 2016, stride on the 3x3)."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Shaped

from occjax.config import RANDOM, BackboneConfig
from occjax.errors import DataError, UserError
from occjax.models.layers import BasicBlock, ConvNorm
from occjax.npz import read_npz
from occjax.storage import writing

# What torchvision calls its ImageNet weights of each depth.
_TORCHVISION = {18: "resnet18-f37072fd", 34: "resnet34-b627a593", 50: "resnet50-0676ba61"}
BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


class Bottleneck(nnx.Module):
    """1x1, 3x3, 1x1 convolutions with a shortcut; the output has four times the inner width."""

    EXPANSION = 4

    def __init__(self, c_in: int, width: int, *, stride: int = 1, dtype=jnp.float32, rngs: nnx.Rngs):
        c_out = width * self.EXPANSION
        self.conv1 = ConvNorm(c_in, width, 1, dtype=dtype, rngs=rngs)
        self.conv2 = ConvNorm(width, width, 3, stride=stride, dtype=dtype, rngs=rngs)
        self.conv3 = ConvNorm(width, c_out, 1, dtype=dtype, rngs=rngs)
        same_shape = stride == 1 and c_in == c_out
        self.shortcut = None if same_shape else ConvNorm(c_in, c_out, 1, stride=stride, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool, mask=None) -> Float[Array, "b h2 w2 c2"]:
        y = jax.nn.relu(self.conv1(x, train=train, mask=mask))
        y = jax.nn.relu(self.conv2(y, train=train, mask=mask))
        y = self.conv3(y, train=train, mask=mask)
        identity = x if self.shortcut is None else self.shortcut(x, train=train, mask=mask)
        return jax.nn.relu(y + identity)


def max_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Maximum over 3x3 windows at stride 2, padded by one."""
    # Padded by -inf, so that what lies outside is never the maximum.
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0)))


def _run(block, x: Float[Array, "b h w c"], train: bool, mask: Bool[Array, "b"] | None) -> Float[Array, "b h2 w2 c2"]:
    return block(x, train=train, mask=mask)


# Keeps a block's input alone and computes the rest again in the backward pass: memory for time.
_run_again = nnx.remat(_run, static_argnums=2)


class ResNet(nnx.Module):
    """The image backbone.

    `config.frozen_stages` of its five parts (stem, then four stages) pass no gradient and keep their statistics;
    `config.frozen_batch_norm` keeps the statistics of all of them.
    """

    pool = staticmethod(max_pool)

    def __init__(self, config: BackboneConfig, *, dtype=jnp.float32, remat: bool = False, rngs: nnx.Rngs):
        if not 0 <= config.frozen_stages <= 5:
            raise ValueError(f"frozen_stages counts the stem and four stages, 0 to 5; found {config.frozen_stages}")
        self.config, self.remat = config, remat
        self.stem = ConvNorm(3, config.width, 7, stride=2, dtype=dtype, rngs=rngs)
        block_type, expansion = (Bottleneck, Bottleneck.EXPANSION) if config.depth == 50 else (BasicBlock, 1)
        stages, c_in, out_channels = [], config.width, []
        for index, blocks in enumerate(BLOCKS[config.depth]):
            stage, width = [], config.width * 2**index
            for block in range(blocks):
                stride = 2 if block == 0 and index > 0 else 1
                stage.append(block_type(c_in, width, stride=stride, dtype=dtype, rngs=rngs))
                c_in = width * expansion
            stages.append(nnx.List(stage))
            out_channels.append(c_in)
        self.stages = nnx.List(stages)
        self.out_channels = tuple(out_channels)

    def __call__(
        self, images: Float[Array, "b h w 3"], *, train: bool, mask: Bool[Array, "b"] | None = None
    ) -> tuple[Float[Array, "b _ _ _"], ...]:
        """Feature maps at strides 4, 8, 16, 32; images where `mask` is false count in no batch statistic."""
        frozen, train = self.config.frozen_stages, train and not self.config.frozen_batch_norm
        x = self.pool(jax.nn.relu(self.stem(images, train=train and frozen < 1, mask=mask)))
        # Here rather than on the parameters: the backward pass ends at the last frozen part.
        x = jax.lax.stop_gradient(x) if frozen >= 1 else x
        features = []
        for index, stage in enumerate(self.stages, start=2):
            stage_train = train and frozen < index
            # A frozen stage has no backward pass for which anything could be kept or computed again.
            run = _run_again if self.remat and frozen < index else _run
            for block in stage:
                x = run(block, x, stage_train, mask)
            x = jax.lax.stop_gradient(x) if frozen >= index else x
            features.append(x)
        return tuple(features)


class BackboneWeightsError(UserError):
    """A file of backbone weights is missing or was made for another ResNet."""


def save_backbone_weights(path: Path, arrays: dict[tuple[str | int, ...], Shaped[np.ndarray, "..."]]) -> None:
    """Writes arrays by their path inside the backbone to an .npz, whole or not at all."""
    with writing(path) as scratch, scratch.open("wb") as file:
        np.savez(file, **{"/".join(map(str, key)): value for key, value in arrays.items()})


def require_backbone_weights(config: BackboneConfig) -> None:
    """Raises BackboneWeightsError, with the commands that make it, where the configured file of weights is absent."""
    if config.weights == RANDOM or Path(config.weights).is_file():
        return
    random = f"choose to start from random weights: --config.model.backbone.weights={RANDOM}"
    if config.depth not in _TORCHVISION:
        raise BackboneWeightsError(
            f"model.backbone.weights={config.weights!r} is no file, and torchvision has no weights of depth "
            f"{config.depth}; {random}"
        )
    path = Path(config.weights or f"data/weights/resnet{config.depth}.npz")
    name = _TORCHVISION[config.depth]
    download = path.parent / f"{name}.pth"
    raise BackboneWeightsError(
        f"model.backbone.weights={config.weights!r} is no file; make {path} of torchvision's ImageNet weights with\n"
        f"  curl --create-dirs -o {download} https://download.pytorch.org/models/{name}.pth\n"
        f"  occjax convert-weights --kind=resnet --depth={config.depth} --input={download} "
        f"--output={path}\n"
        f"or {random}"
    )


def load_backbone_weights(config: BackboneConfig, params: dict, batch_stats: dict) -> tuple[dict, dict]:
    """The student's parameters and statistics with the backbone's replaced by those of an .npz.

    Args:
      config: names the file, made by occjax convert-weights --kind=resnet.
      params: the student's parameters, nested dicts; likewise batch_stats.

    Raises:
      BackboneWeightsError: no such file, or names and shapes differ from the configured backbone's; lists all of them.
    """
    require_backbone_weights(config)
    path = Path(config.weights)
    try:
        stored = read_npz(path)
    except (DataError, OSError) as error:
        raise BackboneWeightsError(
            f"{path} cannot be read: {error}; convert it again with occjax convert-weights"
        ) from error
    problems = []  # all of them, since a file for another depth differs in more than one place

    def take(key_path, leaf):
        name = "/".join(str(key.key) for key in key_path)
        if name not in stored:
            problems.append(f"missing: {name}")
            return leaf
        value = stored.pop(name)
        if value.shape != leaf.shape:
            problems.append(f"shape: {name} is {value.shape}, the backbone needs {leaf.shape}")
            return leaf
        if value.dtype.kind != "f" or not np.isfinite(value).all():
            problems.append(f"values: {name} must hold finite numbers, it is {value.dtype}")
            return leaf
        return jnp.asarray(value, leaf.dtype)

    loaded = [
        {**tree, "backbone": jax.tree_util.tree_map_with_path(take, tree["backbone"])} for tree in (params, batch_stats)
    ]
    problems += [f"unexpected: {name}" for name in stored]
    if problems:
        lines = "\n  ".join(problems)
        raise BackboneWeightsError(
            f"{path} does not fit the configured backbone, {len(problems)} entries:\n  {lines}\n"
            "set model.backbone.depth and width to what the file was made for"
        )
    return loaded[0], loaded[1]

"""Pictures and films of chosen samples: a checkpoint's predictions beside what was there."""

from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np

from occjax.config import Config
from occjax.data.index import SplitIndex, load_index
from occjax.data.parts import Parts
from occjax.data.samples import SampleReader
from occjax.data.sources import open_source, unlabelled_rows
from occjax.drawing.movie import draw_frame, write_movie
from occjax.errors import UserError
from occjax.metrics.on_device import VoxelSummary
from occjax.predict.stored_weights import restore
from occjax.run.evaluate import make_summary_fn
from occjax.run.sample_sheet import title_of, write_sheet
from occjax.run.scoring import scored_sample
from occjax.system.mesh import make_mesh
from occjax.targets.reader import complete_teacher
from occjax.types import Batch


def visualize_workdir(
    config: Config, workdir: Path, *, tokens: list[str], scene: str, movie_format: str, best: bool = False
) -> list[Path]:
    """Draws samples of any split as the newest checkpoint of `workdir` (or the best one) sees them.

    Args:
      config: of the run.
      workdir: gets the files, in the folder pictures; one process.
      tokens: samples to draw, or none for a scene.
      scene: name of a scene, drawn whole where there are no tokens.
      movie_format: "mp4" or "gif" for a film of the scene, empty for a picture of each sample. Pictures show the
        teacher where `config.data.teacher_dir` has all of the samples.
      best: the checkpoint with the best validation mIoU.

    Returns:
      the files that were written.

    Raises:
      UserError: no checkpoint, data that is not there, an unknown token or scene.
    """
    # All tables, not a split: a token or a scene is named by people who do not think of splits.
    keyframes = load_index(config.data, fallback_dir=workdir).everything
    rows = rows_of_tokens(keyframes, tokens) if tokens else rows_of_scene(keyframes, scene)
    drawn = [keyframes.tokens[row] for row in rows]
    # All samples with labels or none: a film of which the truth comes and goes says less than one without.
    parts = Parts(
        labels=not set(rows).intersection(unlabelled_rows(config.data, keyframes)),
        teacher=None if movie_format else complete_teacher(config, keyframes.name, drawn),
    )
    reader = SampleReader(config, open_source(config.data, keyframes, parts), augment=None)
    # After the data, which is checked sooner than a checkpoint is read.
    mesh = make_mesh()
    weights = restore(config, workdir, mesh, best=best)
    output_dir = workdir / "pictures"
    return visualize(
        make_summary_fn(config, mesh)(weights),
        reader,
        keyframes,
        rows,
        config,
        output_dir=output_dir,
        movie=output_dir / f"{scene}.{movie_format}" if movie_format else None,
        batch_size=mesh.size,
    )


def rows_of_tokens(keyframes: SplitIndex, tokens: list[str]) -> list[int]:
    """Rows of samples by token.

    Raises:
      UserError: names the tokens that are not there.
    """
    # In the order of the tokens, not of the tables.
    row_of = {token: row for row, token in enumerate(keyframes.tokens)}
    unknown = [token for token in tokens if token not in row_of]
    if unknown:
        raise UserError(
            f"no keyframe has the token {', '.join(unknown[:5])}; the first ones here are "
            f"{', '.join(keyframes.tokens[:3])}"
        )
    return [row_of[token] for token in tokens]


def rows_of_scene(keyframes: SplitIndex, scene: str) -> list[int]:
    """Rows of a scene's keyframes in time order.

    Raises:
      UserError: there is no such scene.
    """
    rows = [row for row, name in enumerate(keyframes.scene_names) if name == scene]
    if not rows:
        # The trainval tables have 850: some are enough to show how they are spelt.
        names = sorted(set(keyframes.scene_names))
        raise UserError(
            f"no scene {scene!r} among {len(names)}: {', '.join(names[:10])}; --mode=visualize --list-scenes has all"
        )
    return rows


def list_scenes(config: Config, workdir: Path | None) -> str:
    """A line for each scene of the tables: its name, its splits, how many keyframes it has, and the first one's token.

    `workdir`, if any, keeps the index where the data's folder cannot. Raises UserError for data that is not there.
    """
    index = load_index(config.data, fallback_dir=workdir)
    keyframes = index.everything
    # The scenes of mini_train, say, are in train as well.
    splits: dict[str, list[str]] = {}
    for split, scenes in index.splits.items():
        for scene in scenes:
            splits.setdefault(scene, []).append(split)
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(keyframes.scene_names):
        rows.setdefault(name, []).append(row)
    width = max(map(len, rows))
    return "\n".join(
        f"{name:{width}}  {', '.join(splits.get(name, ['in no split']))}, {len(of_scene)} keyframes from sample "
        f"{keyframes.tokens[of_scene[0]]}"
        for name, of_scene in sorted(rows.items())
    )


def visualize(
    predict_fn: Callable[[Batch], VoxelSummary],
    reader: Callable[[int, np.random.Generator], Batch],
    keyframes: SplitIndex,
    rows: list[int],
    config: Config,
    *,
    output_dir: Path,
    movie: Path | None = None,
    batch_size: int = 1,
) -> list[Path]:
    """Draws samples, one PNG each, or a film of them.

    Args:
      predict_fn: as for `occjax.run.scoring.evaluate`.
      reader: samples of `keyframes` by row, without augmentation; with labels or without.
      keyframes: that `rows` point into.
      rows: samples, in the order of the film.
      config: of the model.
      output_dir: gets the pictures.
      movie: file to write a film to instead, .mp4 or .gif.
      batch_size: what `predict_fn` wants; each sample is repeated to fill a batch.

    Returns:
      the files that were written.
    """
    if movie is not None:
        # A generator: a frame is drawn when the film wants it, and its images are gone afterwards.
        frames = (
            draw_frame(
                batch.images[0],
                tuple(config.data.cameras),
                None if batch.labels is None else batch.labels.semantics[0],
                np.asarray(summary.semantics[0]),
                config.grid.build(),
                title=title_of(keyframes, row),
                aspects=keyframes.camera_aspects(row, tuple(config.data.cameras)),
            )
            for row, batch, summary in predictions(predict_fn, reader, rows, batch_size)
        )
        write_movie(frames, movie)
        return [movie]
    return [
        write_sheet(batch.images[0], scored_sample(batch, summary, 0), config, keyframes, row, output_dir)
        for row, batch, summary in predictions(predict_fn, reader, rows, batch_size)
    ]


def predictions(predict_fn, reader, rows: list[int], batch_size: int) -> Iterator[tuple[int, Batch, VoxelSummary]]:
    """Row, batch of one sample repeated, and its summary; one at a time, as a scene's images would fill the memory."""
    for row in rows:
        # The compiled pass wants a sample per device; without augmentation no random number is drawn.
        sample = reader(row, np.random.default_rng(0))
        batch = jax.tree.map(lambda x: np.repeat(np.asarray(x)[None], batch_size, axis=0), sample)
        yield row, batch, predict_fn(batch)

"""Page to look at: chosen samples as a checkpoint sees them, in one HTML file that turns."""

import argparse
from pathlib import Path

from occjax.config import Config
from occjax.data.index import SplitIndex, load_index
from occjax.data.parts import Parts
from occjax.data.samples import SampleReader
from occjax.data.sources import open_source, unlabelled_rows
from occjax.drawing.page import MOST_FRAMES, write_page
from occjax.errors import UserError
from occjax.predict.stored_weights import restore
from occjax.run.evaluate import make_summary_fn
from occjax.run.sample_sheet import title_of
from occjax.run.scene_frame import packed_frame
from occjax.run.visualize import predictions, rows_of_scene, rows_of_tokens
from occjax.system.mesh import make_mesh
from occjax.targets.reader import complete_teacher


def view_by_options(config: Config, workdir: Path, options: argparse.Namespace) -> Path:
    """`view_workdir` as the command line says it: the page is scene.html in the workdir where no --output is named."""
    if options.tokens and options.scene:
        raise UserError("--mode=view wants --tokens=TOKEN,TOKEN or --scene=NAME, not both")
    return view_workdir(
        config,
        workdir,
        Path(options.output or workdir / "scene.html"),
        tokens=options.tokens or [],
        scene=options.scene or "",
        most_frames=MOST_FRAMES if options.frames is None else options.frames,
        best=bool(options.best),
    )


def view_workdir(
    config: Config,
    workdir: Path,
    output: Path,
    *,
    tokens: list[str],
    scene: str,
    most_frames: int = MOST_FRAMES,
    best: bool = False,
) -> Path:
    """Writes the page of samples as the newest checkpoint of `workdir` (or the best one) sees them.

    Args:
      config: of the run.
      workdir: of the run; one process.
      output: the .html file.
      tokens: samples to show, or none for a scene.
      scene: name of a scene; where there are neither tokens nor scene, the first one of the validation split.
      most_frames: of more samples, the first ones are shown.
      best: the checkpoint with the best validation mIoU.

    Returns:
      `output`.

    Raises:
      UserError: no checkpoint, data that is not there, an unknown token or scene, or an output that is no .html file or
        cannot be written.
    """
    # Before anything that takes time.
    if output.suffix != ".html":
        raise UserError(f"a page is written as .html, not {output.name!r}; say --output=scene.html")
    if most_frames < 1:
        raise UserError(f"--frames must be at least 1, not {most_frames}")
    index = load_index(config.data, fallback_dir=workdir)
    keyframes = index.everything
    if tokens:
        rows, title = rows_of_tokens(keyframes, tokens), config.name
    else:
        scene = scene or _first_scene(index.split(config.data.val_split))
        rows, title = rows_of_scene(keyframes, scene), f"{config.name}, {scene}"
    rows = rows[:most_frames]
    # All samples with labels or none, and so with the teacher: panels stay where they are as time goes on.
    parts = Parts(
        labels=not set(rows).intersection(unlabelled_rows(config.data, keyframes)),
        teacher=complete_teacher(config, keyframes.name, [keyframes.tokens[row] for row in rows]),
    )
    reader = SampleReader(config, open_source(config.data, keyframes, parts), augment=None)
    mesh = make_mesh()
    predict_fn = make_summary_fn(config, mesh)(restore(config, workdir, mesh, best=best))
    # Packed one after the other: a frame's images and volumes are gone before the next one is read.
    frames = (
        packed_frame(batch, summary, 0, config, keyframes, row, title=title_of(keyframes, row))
        for row, batch, summary in predictions(predict_fn, reader, rows, mesh.size)
    )
    return write_page(output, frames, config.grid.build(), title=title, camera_names=tuple(config.data.cameras))


def _first_scene(split: SplitIndex) -> str:
    if not len(split):
        raise UserError(f"split {split.name} has no keyframe to show; name a scene: --scene=NAME")
    return split.scene_names[0]

"""Command lines that make teacher files, for errors to print; the reader fills in what is in <>, and pastes them."""

import shlex
from pathlib import Path

from occjax.config import DataConfig
from occjax.grid import VoxelGrid
from occjax.label_sets import label_set_of_grid

# The grid that the converter takes for a dump's where no option names one.
_USUAL = DataConfig().labels


def completing_command(
    data: DataConfig,
    output: str | Path,
    grid: VoxelGrid | None = None,
    *,
    is_resampled: bool = False,
    weights: dict | None = None,
) -> str:
    """The command that adds what a teacher folder lacks.

    Args:
      data: root, version and splits file of the samples.
      output: the folder.
      grid: of its files; None = that of a usual dump.
      is_resampled: whether `grid` is another than the dump's.
      weights: what the manifest says of the checkpoint that the files were made from; None = a dump.
    """
    name = label_set_of_grid(grid).name if grid else _USUAL
    # A resampled folder names its own grid, any other the grid of its dump.
    options = [f"--grid={name}"] if is_resampled else _source(name)
    output = shlex.quote(str(output))
    if weights is None:
        return _command(data, output, *options, "--skip-existing")
    # As they were run before: with other options they are another teacher. What was usual need not be said.
    usual = {"draws": "1", "backbone_dtype": "float32", "dup_mode": "cpu_first"}
    # A manifest of before an option was there was made with what is usual.
    named = {name: weights[name] for name in ("model", *usual) if weights.get(name, usual.get(name)) != usual.get(name)}
    options += [f"--{name.replace('_', '-')}={value}" for name, value in named.items()]
    return _command(data, output, *options, source=f"--weights={shlex.quote(weights['file'])}")


def resampling_command(data: DataConfig, found: VoxelGrid, wanted: VoxelGrid) -> str:
    """The command that makes files on `found` anew for a model on `wanted`; empty where both lie in one frame.

    The converter knows the grids of the label sets: within a frame it is the model's grid that has to fit.
    """
    if found.frame == wanted.frame:
        return ""
    return _command(
        data, "<another folder>", *_source(label_set_of_grid(found).name), f"--grid={label_set_of_grid(wanted).name}"
    )


def dump_command(workdir: str | Path, output: str | Path) -> str:
    """The command that adds what a folder lacks which a run has filled with its predictions."""
    return f"occjax --mode=dump --workdir={shlex.quote(str(workdir))} --output={shlex.quote(str(output))}"


def _source(name: str) -> list[str]:
    return [] if name == _USUAL else [f"--source-grid={name}"]


def _command(data: DataConfig, output: str, *options: str, source: str = "--input=<dump>") -> str:
    words = ["occjax convert-teacher", source, f"--output={output}"]
    words.append(f"--data-root={shlex.quote(data.root)}")
    # Only what is not the default: a command should fit on a line.
    if data.version != DataConfig().version:
        words.append(f"--version={shlex.quote(data.version)}")
    if data.splits_file:
        words.append(f"--splits-file={shlex.quote(data.splits_file)}")
    return " ".join([*words, *options])

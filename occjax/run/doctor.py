"""Report on the data: what is there, what is missing or empty, and the command that mends it (`--mode=doctor`)."""

from pathlib import Path

from occjax import config_checks
from occjax.config import RANDOM, Config
from occjax.data.files import (
    FileSet,
    camera_files,
    damaged_npz,
    file_sizes,
    label_files,
    lidar_files,
    place,
    teacher_files,
)
from occjax.data.index import Index, SplitIndex, load_index
from occjax.data.parts import Parts
from occjax.data.record_store import RecordStore
from occjax.errors import UserError
from occjax.label_sets import LABEL_SETS
from occjax.models.resnet import require_backbone_weights
from occjax.run.decoded import decoding_problems
from occjax.targets.folder import TeacherFolder
from occjax.targets.reader import open_teacher

# Says what was not looked at, so that nobody takes it for more.
_VERDICT = (
    "all that this configuration needs is there: files were counted, of teacher files the directory was read, and one "
    "file of every kind was decoded per split; the others were not"
)


def report(config: Config) -> tuple[str, bool]:
    """What training and evaluation with `config` would find.

    Returns:
      the report, for a terminal; and whether everything that the configuration needs is there.
    """
    # Collected and not raised: a report that ends at the first problem would be an error message.
    problems = config_checks.problems(config)
    weights = config.model.backbone.weights
    lines = [
        f"nuScenes root  {Path(config.data.root).resolve()}",
        f"version        {config.data.version}",
        f"backbone       {'random weights' if weights == RANDOM else weights}",
    ]
    try:
        require_backbone_weights(config.model.backbone)
    except UserError as error:
        problems.append(str(error))
    try:
        index = load_index(config.data)
    except UserError as error:
        # A run would make the city; the doctor only looks.
        remedy = "; `occjax --config=...` generates it" if config.data.synthetic.enabled else ""
        return _finish(lines, [*problems, f"{error}{remedy}"])
    lines += _index_lines(index)
    try:
        index.everything.camera_columns(config.data.cameras)
    except UserError as error:
        problems.append(str(error))
    # Records hold their own; each split asks for it where it is needed.
    teacher = None if config.data.records_dir else _open_teacher(config, problems)
    for name in dict.fromkeys((config.data.train_split, config.data.val_split)):
        try:
            split = index.split(name)
        except UserError as error:
            problems.append(str(error))
            continue
        lines += ["", f"split {name}: {len(split)} keyframes in {len(set(split.scene_names))} scenes"]
        known = len(problems)
        lines += _split_lines(config, split, teacher, problems)
        # Records that do not fit have no file that could be decoded.
        if not config.data.records_dir or len(problems) == known:
            problems += _decoding_problems(config, split, teacher)
    return _finish(lines, problems)


def _index_lines(index: Index) -> list[str]:
    splits = ", ".join(f"{name} ({len(scenes)} scenes)" for name, scenes in index.splits.items())
    return [
        f"tables         {len(index.everything)} keyframes in {len(index.everything.scene_name)} scenes; "
        f"cameras {', '.join(index.everything.cameras) or 'none'}",
        f"splits         {splits or 'none'}; from {index.splits_origin}",
    ]


def _decoding_problems(config: Config, split: SplitIndex, teacher: TeacherFolder | None) -> list[str]:
    # Evaluation reads neither sweeps nor, where there is none, a teacher; whether records hold parts is said by now.
    is_trained_on = split.name == config.data.train_split
    lidar = is_trained_on and config.loss.depth > 0
    return decoding_problems(config, split, Parts(lidar, labels=True, teacher=teacher if is_trained_on else None))


def _open_teacher(config: Config, problems: list[str]) -> TeacherFolder | None:
    if not config.data.teacher_dir:
        return None  # weights without a teacher are a problem of the configuration, which the checks name
    try:
        return TeacherFolder(Path(config.data.teacher_dir), config.grid.build(), data=config.data)
    except (UserError, ValueError) as error:
        problems.append(str(error))
        return None


def _split_lines(config: Config, split: SplitIndex, teacher: TeacherFolder | None, problems: list[str]) -> list[str]:
    if config.data.records_dir:
        return [_records_line(config, split, problems)]
    lines = []
    for channel in config.data.cameras:
        if channel in split.cameras:
            lines.append(_kind_line(camera_files(split, channel), split.name, problems, is_needed=True))
        else:
            lines.append(f"  {f'{channel} images':22s} not in the tables")
    lines.append(_kind_line(lidar_files(split), split.name, problems, is_needed=config.loss.depth > 0))
    # All of them, because whoever lacks one set may have another.
    for labels in LABEL_SETS.values():
        files = label_files(split, labels, config.data)
        lines.append(_kind_line(files, split.name, problems, is_needed=labels.name == config.data.labels))
    if teacher is not None:
        files = teacher_files(split, teacher)
        # Evaluation does without a teacher.
        is_needed = split.name == config.data.train_split
        lines.append(_kind_line(files, split.name, problems, is_needed=is_needed, are_archives=True))
    return lines


def _records_line(config: Config, split: SplitIndex, problems: list[str]) -> str:
    is_trained_on = split.name == config.data.train_split
    try:
        teacher = open_teacher(config) if config.loss.distill.is_on and is_trained_on else None
        parts = Parts(lidar=config.loss.depth > 0 and is_trained_on, labels=True, teacher=teacher)
        store = RecordStore(config.data, split, parts)
        store.require_complete()
    except UserError as error:
        problems.append(str(error))
        return f"  {'records':22s} unusable, see below"
    size = sum(shard.size_bytes for shard in store.shards)
    return f"  {'records':22s} {len(split):6d} of {len(split):<6d} {_bytes(size):>9s}  in {len(store.shards)} shards"


def _kind_line(files: FileSet, split: str, problems: list[str], *, is_needed: bool, are_archives: bool = False) -> str:
    sizes = file_sizes(files)
    total, found = len(sizes), sum(size > 0 for size in sizes)
    line = f"  {files.kind:22s} {found:6d} of {total:<6d} {_bytes(sum(max(size, 0) for size in sizes)):>9s}"
    if 0 < found < total:
        # What a download that goes on will need, at the mean of what is there.
        line += f" of about {_bytes(sum(max(size, 0) for size in sizes) / found * total)}"
    states = {
        "missing": [i for i, size in enumerate(sizes) if size < 0],
        "empty": [i for i, size in enumerate(sizes) if size == 0],
        "damaged": [],
    }
    if are_archives:
        # The end of an archive holds its directory: reading that finds what was cut off, at the cost of a seek.
        there = [i for i, size in enumerate(sizes) if size > 0]
        states["damaged"] = [there[i] for i in damaged_npz([files.paths[i] for i in there])]
    for state, rows in states.items():
        if rows and not is_needed:
            line += f"  {len(rows)} {state} (not needed by this configuration)"
        elif rows:
            tokens = ", ".join(files.tokens[i] for i in rows[:5]) + (", ..." if len(rows) > 5 else "")
            line += f"  {len(rows)} {state}"
            # The converter keeps what it finds, whole or not.
            first = "delete them, then " if are_archives and state != "missing" else ""
            problems.append(
                f"{split}: {len(rows)} of {total} {files.kind} {state}\n     first: {place(files.paths[rows[0]])}\n"
                f"     tokens: {tokens}\n     mend: {first}{files.remedy}"
            )
    return line


def _bytes(size: int | float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _finish(lines: list[str], problems: list[str]) -> tuple[str, bool]:
    if not problems:
        return "\n".join([*lines, "", _VERDICT]), True
    numbered = [f"  {number}. {problem}" for number, problem in enumerate(problems, 1)]
    return "\n".join([*lines, "", f"{len(problems)} problem{'s' if len(problems) > 1 else ''}:", *numbered]), False

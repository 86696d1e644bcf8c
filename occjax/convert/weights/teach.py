"""A teacher's network over nuScenes: teacher files and dump surface from its weights, as from a dump of its own.

What it predicts goes through the functions that a dump goes through: audit, codes, files.
"""

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from occjax.config import DataConfig
from occjax.convert.dump.audit import Audit
from occjax.convert.dump.audit_dump import audit_samples, audited_samples, require_sound
from occjax.convert.dump.listing import TOKEN, MatchedFile
from occjax.convert.dump.measure import decode_ms
from occjax.convert.dump.options import DumpOptions
from occjax.convert.dump.output import Conversion
from occjax.convert.dump.sample import SampleTask, hard_labels
from occjax.convert.dump.scores import scores_of
from occjax.convert.dump.surface_manifest import SurfaceSource, surface_manifests, write_manifests
from occjax.convert.dump.tasks import keyframes, remove_leftovers, require_labels, sample_tasks, without_completed
from occjax.convert.weights.keyframes import KeyframeReader
from occjax.convert.weights.stream import Predicted, VoxelPredictor, predict_tasks
from occjax.convert.weights.taught import TaughtSample, TeacherScore, Values, write_taught
from occjax.data.index import Index, load_index
from occjax.errors import UserError
from occjax.storage import versions
from occjax.system.ahead import ahead
from occjax.system.progress import Progress

# As many as of a dump: the figures differ by a few per cent between samples.
_MEASURED_SAMPLES = 4


class TeacherSource(NamedTuple):
    """What the files are made from.

    Attributes:
      source: in words, with everything that decides the numbers: folders of another source are refused.
      details: the same for the manifests, field by field.
    """

    source: str
    details: dict


def teach(
    predictor: VoxelPredictor,
    made: TeacherSource,
    output: Path,
    *,
    data_config: DataConfig,
    options: DumpOptions,
    shard: tuple[int, int] = (0, 1),
    audit: bool = True,
    metric: bool = True,
    workers: int = 1,
    progress: Callable[[str], None] = lambda line: None,
    print_every_s: float = 5.0,
) -> Conversion:
    """Writes teacher files, manifest and dump surface of the keyframes of `options.splits`.

    Args:
      predictor: the network.
      made: its weights and how it is run.
      output: folder for teacher files and manifest; made if absent.
      data_config: root, version and splits of the tables; where images and labels are.
      options: what to write. With `skip_existing` samples that are complete are kept.
      shard: (i, n): this call's part of the samples; all n of them fill one folder, in any order or at the same time.
      audit: score a sample of what it predicts first where labels are there, the same for every shard.
      metric: score all that is predicted, where labels are there.
      workers: threads that read images, and as many that write.
      progress: takes lines for the screen.
      print_every_s: seconds between lines on progress.

    Returns:
      What was done; `failures` lists samples that gave nothing.

    Raises:
      AuditError: what it predicts does not fit the truth; nothing is written.
      DumpError: the folders hold something else, or labels are absent that are to be drawn.
      DataError: tables, splits or images are not there.
    """
    index = load_index(data_config)
    options = dataclasses.replace(options, voxel_kind=predictor.value_kind)
    grid, has_moved = options.output_grid or options.grid, options.output_grid is not None
    result = Conversion(output, made.source, grid, options.form, has_validity=has_moved, matched_by=TOKEN)
    # Before any work: files of two teachers in one folder would serve nobody.
    result.require_own()
    previous = result.previous("source", "grid", "form", "contents")
    manifests = surface_manifests(
        SurfaceSource(made.source, "position in the split", made.details), options, taken=output
    )
    every = sample_tasks(keyframes(index, options), output, index, data_config, options, has_labels=metric)
    require_labels(every)
    readers = {s: KeyframeReader(data_config, index.split(s), predictor.image_size) for s in options.splits}
    predicted = partial(predict_tasks, predictor, readers, workers)
    number, count = shard
    own = every[number::count]
    tasks = without_completed(own) if options.skip_existing else own
    part = f", {len(own)} of them in shard {number}/{count}" if count > 1 else ""
    progress(f"{len(every)} keyframes{part}, {len(tasks)} to predict")
    held: dict[str, Values | UserError] = {}
    # Once a folder: with other weights it would have been refused.
    facts: dict | None = previous.get("audit")
    if audit and not facts and tasks:
        result.audit, held = _audited(every, predicted, index, data_config, options, progress)
        require_sound(result.audit, "what the teacher predicts")
        facts = result.audit.facts() if result.audit else None
    result.make_folder()
    remove_leftovers(tasks)
    write_manifests(manifests)
    result.keep_but({task.target for task in tasks}, previous)
    # Before the first file, so that files without a manifest are always somebody else's.
    _write_manifest(result, made, facts)
    score = TeacherScore(options.grid) if metric else None
    lines = Progress("teaching", len(tasks), progress, every_s=print_every_s, untimed=int(not held))
    measured: list[tuple[str, float]] = []
    has_others = count > 1  # other jobs' files lie in the folder too
    try:
        for task, sample in _written(tasks, held, predicted, workers):
            if sample.result.problem:
                result.failures.append((task.target, sample.result.problem))
            else:
                result.add(sample.result.kind, sample.result.bytes_written, sample.result.active)
                measured += [(task.token, sample.kl)] if sample.kl is not None else []
            if score is not None:
                score.update(sample)
            lines.advance(remark="" if score is None else score.remark())
    except BaseException:
        has_others = True  # and so do those that were under way
        raise
    # Whatever ends it, the manifest counts what is there: training reads its largest count as a capacity.
    finally:
        _write_manifest(result, made, facts, has_others=has_others)
    if score is not None and score.samples:
        progress(str(score))
    if measured:
        result.kl = float(np.mean([kl for _, kl in measured]))
        result.decode_ms = decode_ms(output, [token for token, _ in measured])
    return result


def _audited(
    tasks: list[SampleTask],
    predicted: Predicted,
    index: Index,
    data: DataConfig,
    options: DumpOptions,
    progress: Callable[[str], None],
) -> tuple[Audit | None, dict[str, Values | UserError]]:
    """The audit of some of the tasks, the same ones for every shard; and what was predicted for it, by token."""
    by_token = {task.token: task for task in tasks}
    picked = audited_samples([MatchedFile(task.token, task.file) for task in tasks], index, data, options)
    if picked:
        progress(f"predicting {len(picked)} samples for the audit; the first waits for the compiler")
    held = {task.token: values for task, values in predicted([by_token[item.token] for item in picked])}

    def prediction(item: MatchedFile) -> tuple[UInt8[np.ndarray, "x y z"], bool]:
        values = held[item.token]
        if isinstance(values, UserError):
            raise values
        return hard_labels(scores_of(values, options).sparse, options.grid), False

    found = audit_samples(picked, prediction, index, data, options)
    progress(found.report() if found else "nothing is audited: no sample has both images and labels")
    return found, held


def _written(
    tasks: list[SampleTask],
    held: dict[str, Values | UserError],
    predicted: Predicted,
    workers: int,
) -> Iterator[tuple[SampleTask, TaughtSample]]:
    """What became of each task, those first that the audit has predicted; files are written while others are."""
    at_hand = [task for task in tasks if task.token in held]
    rest = [task for task in tasks if task.token not in held]

    def all_values() -> Iterator[tuple[SampleTask, Values | UserError]]:
        for task in at_hand:
            yield task, held.pop(task.token)
        # What is left are the samples of other shards, which these write themselves: 23 MB each.
        held.clear()
        yield from predicted(rest)

    # A dense file loses nothing, and what was resampled has no counterpart in what the teacher said.
    can_measure = bool(tasks) and tasks[0].options.form == "compact" and tasks[0].options.output_grid is None
    measured = {task.token for task in tasks[:_MEASURED_SAMPLES]} if can_measure else set()

    def write(item: tuple[SampleTask, Values | UserError]) -> TaughtSample:
        return write_taught(*item, measures_kl=item[0].token in measured)

    with ThreadPoolExecutor(workers) as pool:
        for (task, _), writing in ahead(pool, write, all_values(), 2 * workers):
            yield task, writing.result()


def _write_manifest(result: Conversion, made: TeacherSource, audit: dict | None, *, has_others: bool = False) -> None:
    """The manifest of what lies in the folder; the same from one run, from several and from any shards.

    With `has_others` there are files that `result` has not counted; of several jobs the last to write counts all.
    """
    while True:
        paths = sorted(result.folder.glob("*.npz"))
        if has_others:
            result.count_folder(paths)
        size = sum(path.stat().st_size for path in paths)
        result.write_manifest(
            **made.details, bytes_per_sample=size // max(len(paths), 1), audit=audit, versions=versions()
        )
        # Two may have counted at the same time: whoever wrote last has to have seen everything.
        if not has_others or len(paths) == sum(1 for _ in result.folder.glob("*.npz")):
            return

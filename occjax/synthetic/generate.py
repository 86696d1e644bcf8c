"""The synthetic nuScenes root as a whole: scenes in parallel, then tables, splits and the marker, then one rename."""

import concurrent.futures
import dataclasses
import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2

from occjax.config import SyntheticConfig
from occjax.errors import DataError
from occjax.progress import Progress
from occjax.synthetic import files, tables
from occjax.synthetic.scene import ScenePlan, scene_token, write_scene

MARKER = "synthetic.json"
# Raise when the same configuration gives other files. Every random draw counts: one more, one fewer, or two in another
# order anywhere in this package give another city, and folders of the version before must be told from it.
FORMAT = 1


def describe(config: SyntheticConfig) -> dict:
    """What decides the content: format and configuration, and their fingerprint."""
    # `enabled` says whether to generate, not what.
    content = {k: v for k, v in dataclasses.asdict(config).items() if k != "enabled"}
    text = json.dumps({"format": FORMAT, **content}, sort_keys=True)
    return {"format": FORMAT, "config": content, "fingerprint": hashlib.sha256(text.encode()).hexdigest()[:16]}


def is_generated(root: Path, config: SyntheticConfig) -> bool:
    """Whether `root` already holds exactly this world.

    Raises:
      DataError: `root` holds another world, or something else.
    """
    marker = root / MARKER
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    remedy = "delete the folder, or choose another one (config.data.root, or --output)"
    if not marker.is_file():
        raise DataError(f"{root} exists without {MARKER}: the synthetic world never overwrites other data; {remedy}")
    try:
        found = json.loads(marker.read_text())
    except json.JSONDecodeError as error:
        raise DataError(f"{marker} is not readable ({error}); {remedy}") from None
    wanted = describe(config)
    if found.get("fingerprint") != wanted["fingerprint"]:
        have = {"format": found.get("format"), **found.get("config", {})}
        want = {"format": wanted["format"], **wanted["config"]}
        differ = [f"{k} {have.get(k)!r} there, {v!r} wanted" for k, v in want.items() if have.get(k) != v]
        raise DataError(f"{root} holds another synthetic world ({'; '.join(differ) or 'other fingerprint'}); {remedy}")
    return True


def plan_scenes(root: Path, config: SyntheticConfig) -> list[ScenePlan]:
    """One plan per scene; keyframes count up by scene token within each split, as GaussianFormer orders its dumps."""
    # A scene's seed names its split and place in it, so that more scenes leave those there as they are.
    named = [(f"city-{config.seed}-train-{i:04d}", "train", (config.seed, 0, i)) for i in range(config.train_scenes)]
    named += [(f"city-{config.seed}-val-{i:04d}", "val", (config.seed, 1, i)) for i in range(config.val_scenes)]
    positions = {}
    for split in ("train", "val"):
        order = sorted((scene_token(name, config.seed), name) for name, s, _ in named if s == split)
        positions.update({name: i * config.keyframes_per_scene for i, (_, name) in enumerate(order)})
    size = (config.keyframes_per_scene, config.image_width, config.image_height)
    return [
        ScenePlan(root, name, split, seed, number, *size, positions[name])
        for number, (name, split, seed) in enumerate(named)
    ]


def check(config: SyntheticConfig) -> None:
    """Checks every number of the configuration.

    Raises:
      DataError: some make no sense; all of them are named.
    """
    least = {"seed": 0, "train_scenes": 1, "val_scenes": 0, "keyframes_per_scene": 1}
    least.update(image_width=32, image_height=32)
    values = {name: getattr(config, name) for name in least}
    wrong = [f"{name} must be at least {least[name]}, not {v}" for name, v in values.items() if v < least[name]]
    if wrong:
        raise DataError("synthetic world: " + "; ".join(wrong))


def start_worker() -> None:
    """Keeps a worker process to one core: there is a process for each already."""
    cv2.setNumThreads(1)


def generate(
    root: Path,
    config: SyntheticConfig,
    *,
    processes: int | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> None:
    """Writes the world that `config` describes into `root`, unless it is there already.

    The files depend on the configuration alone, not on the number of processes.

    Args:
      root: becomes a nuScenes root of version `v1.0-synthetic`; it appears complete or not at all.
      processes: worker processes; None = as many as there are cores, 1 = none besides this one.
      progress: called with one line of text whenever a scene is finished.

    Raises:
      DataError: `root` holds anything else, or the configuration makes no sense.
    """
    root = Path(root)
    check(config)
    if is_generated(root, config):
        return
    # Beside the root, for the last rename to stay within one disk; the process number keeps two runs apart.
    partial = root.with_name(f"{root.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        rows = _write_scenes(plan_scenes(partial, config), processes, progress)
        _write_tables(partial, config, rows)
        if root.exists():  # empty, or is_generated would have refused it
            root.rmdir()
        partial.rename(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_scenes(plans: list[ScenePlan], processes: int | None, progress) -> list[dict[str, list[dict]]]:
    count = min(processes or len(os.sched_getaffinity(0)), len(plans))
    lines = Progress("synthetic city", len(plans), progress, unit="scenes", every_s=0.0)
    rows: list = [None] * len(plans)
    if count <= 1:
        for i, plan in enumerate(plans):
            rows[i] = write_scene(plan)
            lines.advance()
        return rows
    # A fork would inherit whatever locks the threads of the parent (OpenCV, jax) hold at that moment.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(count, mp_context=context, initializer=start_worker) as pool:
        futures = {pool.submit(write_scene, plan): i for i, plan in enumerate(plans)}
        try:
            for future in concurrent.futures.as_completed(futures):
                rows[futures[future]] = future.result()
                lines.advance()
        except BaseException:
            # Otherwise leaving the pool waits for every scene still queued.
            pool.shutdown(cancel_futures=True)
            raise
    return rows


def _write_tables(root: Path, config: SyntheticConfig, scenes: list[dict[str, list[dict]]]) -> None:
    content = {name: [row for scene in scenes for row in scene[name]] for name in tables.TABLES}
    content.update(tables.shared_tables())
    for name in tables.TABLES:
        files.write_json(root / tables.VERSION / f"{name}.json", content[name])
    names = [plan.name for plan in plan_scenes(root, config)]
    # The devkit knows the scenes of its own versions alone; the split of these is read from this file.
    splits = {"train": names[: config.train_scenes], "val": names[config.train_scenes :]}
    files.write_json(root / "splits.json", splits)
    about = {
        "note": "Procedural scenes; the teacher dump is simulated from the labels with errors, no model made it.",
        "teacher_is_simulated": True,
        **describe(config),
    }
    files.write_json(root / MARKER, about)

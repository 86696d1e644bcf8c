"""The synthetic nuScenes root as a whole: scenes in parallel, then tables, splits and the marker, then one rename."""

import concurrent.futures
import dataclasses
import hashlib
import json
import multiprocessing
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import cv2

from occjax.config import SyntheticConfig
from occjax.errors import DataError
from occjax.synthetic import files, tables
from occjax.synthetic.scene import ScenePlan, write_scene
from occjax.system.child_processes import end_with_parent
from occjax.system.progress import Progress

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
        have, want = ({"format": about.get("format"), **about.get("config", {})} for about in (found, wanted))
        differ = [f"{k} {have.get(k)!r} there, {v!r} wanted" for k, v in want.items() if have.get(k) != v]
        raise DataError(f"{root} holds another synthetic world ({'; '.join(differ) or 'other fingerprint'}); {remedy}")
    return True


def plan_scenes(root: Path, config: SyntheticConfig) -> list[ScenePlan]:
    """One plan per scene; keyframes count up by scene token within each split, as GaussianFormer orders its dumps."""
    plans = []
    for code, (split, count) in enumerate((("train", config.train_scenes), ("val", config.val_scenes))):
        names = [f"city-{config.seed}-{split}-{i:04d}" for i in range(count)]
        order = sorted(names, key=lambda name: tables.make_token("scene", name, config.seed))
        for i, name in enumerate(names):
            position = order.index(name) * config.keyframes_per_scene
            # A scene's seed names its split and place in it, so that more scenes leave those there as they are.
            plans.append(ScenePlan(root, name, split, (config.seed, code, i), len(plans), config, position))
    return plans


def check(config: SyntheticConfig) -> None:
    """Checks every number of the configuration.

    Raises:
      DataError: some make no sense; all of them are named.
    """
    limits = dict(seed=0, train_scenes=1, val_scenes=0, keyframes_per_scene=1, image_width=32, image_height=32)
    checked = ((name, least, getattr(config, name)) for name, least in limits.items())
    wrong = [f"{name} must be at least {least}, not {value}" for name, least, value in checked if value < least]
    if wrong:
        raise DataError("synthetic world: " + "; ".join(wrong))


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
    # Beside the root, for the last rename to stay within one disk; host and process number keep two runs apart.
    partials = root.with_name(f"{root.name}.partial-{socket.gethostname()}-")
    for abandoned in root.parent.glob(f"{partials.name}*"):  # of runs that were killed
        if not _is_running(abandoned.name.removeprefix(partials.name)):
            shutil.rmtree(abandoned, ignore_errors=True)
    partial = partials.with_name(f"{partials.name}{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        plans = plan_scenes(partial, config)
        scenes = _write_scenes(plans, processes, progress)
        content = {name: [row for scene in scenes for row in scene[name]] for name in scenes[0]}
        for name, rows in {**content, **tables.shared_tables()}.items():
            files.write_json(partial / tables.VERSION / f"{name}.json", rows)
        # The devkit knows the scenes of its own versions alone; the split of these is read from this file.
        splits = {split: [plan.name for plan in plans if plan.split == split] for split in ("train", "val")}
        files.write_json(partial / "splits.json", splits)
        note = "Procedural scenes; the teacher dump is simulated from the labels with errors, no model made it."
        files.write_json(partial / MARKER, {"note": note, "teacher_is_simulated": True, **describe(config)})
        if root.exists():  # empty, or is_generated would have refused it
            root.rmdir()
        partial.rename(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_scenes(plans: list[ScenePlan], processes: int | None, progress) -> list[dict[str, list[dict]]]:
    """Rows per table of every scene, in the order of the plans."""
    count = min(processes or len(os.sched_getaffinity(0)), len(plans))
    lines = Progress("synthetic city", len(plans), progress, unit="scenes", every_s=0.0)

    def counted(scenes):
        for scene in scenes:
            lines.advance()
            yield scene

    if count <= 1:
        return list(counted(map(write_scene, plans)))
    # A fork would inherit whatever locks the threads of the parent (OpenCV, jax) hold at that moment.
    context = multiprocessing.get_context("spawn")
    try:
        pool = concurrent.futures.ProcessPoolExecutor(count, context, _start_worker)
    except OSError:  # no semaphores, of a container whose /dev/shm cannot be written
        return list(counted(map(write_scene, plans)))
    with pool:
        try:
            return list(counted(pool.map(write_scene, plans)))
        except BaseException:
            # Otherwise leaving the pool waits for every scene that is begun or queued, for nobody.
            for process in multiprocessing.active_children():
                process.kill()
            pool.shutdown(cancel_futures=True)
            raise


def _is_running(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OverflowError, PermissionError):  # somebody else's
        return True
    return True


def _start_worker() -> None:
    end_with_parent()
    cv2.setNumThreads(1)  # for there is a process for every core already

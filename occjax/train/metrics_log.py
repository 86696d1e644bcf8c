"""Scalars of a run as JSON lines and TensorBoard event files."""

import json
import math
import os
import time
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyrefly: ignore  # made by protobuf as it is imported
from tensorboardX.summary import scalar

from occjax.storage import writing
from occjax.system.processes import from_first, is_first

_FLUSHED_EVERY_S = 30.0


class MetricsLog:
    """Appends scalars to `<workdir>/log.jsonl` and `<workdir>/tensorboard/`.

    After a resume, lines past the restored step are dropped first: they describe updates that are about to be redone.
    Every process of a run can ask what was logged, and the first one writes it.
    """

    def __init__(self, workdir: Path, resume_step: int):
        self._path = workdir / "log.jsonl"
        self._logged = {(step, group) for step, group in from_first(lambda: self._drop_after(resume_step))}
        if not is_first():
            return
        self._file = self._path.open("a", encoding="utf-8")
        self._events = _open_events(workdir / "tensorboard", resume_step + 1)
        self._flushed_at_s = time.monotonic()

    def _drop_after(self, step: int) -> list[tuple[int, str]]:
        """Step and group of each line that stays."""
        kept, logged = [], []
        if not self._path.exists():
            return logged
        for line in self._path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
                found = int(entry["step"]), str(entry["group"])
            # The line that a killed run was writing, or one that was damaged since.
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                continue
            if found[0] <= step:
                kept.append(line)
                logged.append(found)
        # Whole or not at all: a run that is killed here must not lose its history.
        with writing(self._path) as scratch:
            scratch.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        return logged

    def has(self, step: int, group: str) -> bool:
        """Whether a line of this step and group is there, of this run or of one that it resumes."""
        return (step, group) in self._logged

    def write(self, step: int, group: str, scalars: dict[str, float]) -> None:
        """Writes one line {"step", "group", name: value}; values that are not finite become strings in the JSON."""
        self._logged.add((step, group))
        if not is_first():
            return
        # JSON has neither NaN nor infinity, and strict readers stop at them.
        clean = {k: float(v) if math.isfinite(v) else str(float(v)) for k, v in scalars.items()}
        self._file.write(json.dumps({"step": step, "group": group, **clean}) + "\n")
        self._file.flush()  # whoever follows the run reads this line now, and a killed run keeps it
        for name, value in scalars.items():
            self._events.write_event(
                Event(summary=scalar(f"{group}/{name}", float(value)), step=step, wall_time=time.time())
            )
        if time.monotonic() - self._flushed_at_s > _FLUSHED_EVERY_S:
            self._events.flush()
            self._flushed_at_s = time.monotonic()

    def close(self) -> None:
        """Ends both files."""
        if not is_first():
            return
        self._file.close()
        self._events.close()


def _open_events(folder: Path, first_step: int) -> EventsWriter:
    """An event file that hides events from `first_step` on of files before it: a resumed run writes them again.

    Not tensorboardX's SummaryWriter, which hands events to a thread by a queue of processes: that needs semaphores,
    which not every container has, and waits for ever once the thread has met a full disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Named by the second otherwise, which a run that is started again at once would write over.
    events = EventsWriter(str(folder / "events"), f".{os.getpid()}")
    events.write_event(Event(step=first_step, session_log=SessionLog(status=SessionLog.START), wall_time=time.time()))
    return events

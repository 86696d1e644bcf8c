"""Scalars of a run as JSON lines and TensorBoard event files."""

import json
import math
from pathlib import Path

from tensorboardX import SummaryWriter

from occjax.processes import from_first, is_first
from occjax.storage import writing


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
        # purge_step hides events that the resumed run writes again.
        self._writer = SummaryWriter(str(workdir / "tensorboard"), purge_step=resume_step + 1, flush_secs=30)

    def _drop_after(self, step: int) -> list[tuple[int, str]]:
        """Step and group of each line that stays."""
        kept, logged = [], []
        if not self._path.exists():
            return logged
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue  # the line that a killed run was writing
            if entry["step"] <= step:
                kept.append(line)
                logged.append((entry["step"], entry["group"]))
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
            self._writer.add_scalar(f"{group}/{name}", float(value), step)

    def close(self) -> None:
        """Ends both files."""
        if not is_first():
            return
        self._file.close()
        self._writer.close()

"""The killer: SIGKILL at random moments over train, convert, pack, evaluate and dump; what is completed is the same.

python tests/killer/run.py --kills=100 --seed=0

Each kind of work is done undisturbed once, on the tiny generated city. Then it is begun in a folder of its own, killed
(the process alone, or all of its group), and the same command is run again until it is completed, half of the times
killed once more on the way. What lies in the folder then has to be what the undisturbed work left there: the same files
and no other, teacher files, records, predictions and pictures byte for byte, restored arrays and data position bit for
bit, logged values apart from times. A moment is a share of the processor time that the undisturbed work takes once its
folder is there, so that it means the same on a busy machine.
"""

import argparse
import dataclasses
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SUPPORT = [str(REPOSITORY), str(REPOSITORY / "tests/support")]
# Before jax is imported, here and by all that is started: one device, and the compiler's quick way.
os.environ |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_backend_optimization_level=0"}
sys.path[:0] = [*SUPPORT, str(Path(__file__).parent)]

from content import content_of  # noqa: E402
from tiny_world import tiny_config  # noqa: E402

from occjax.run.prepare import prepare  # noqa: E402
from occjax.system.command_line import say  # noqa: E402

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PATIENCE_S = 1200


@dataclasses.dataclass
class Work:
    """One kind of work: its command line, the folder that it fills, what an undisturbed one left and took.

    Attributes:
      name: of the kind.
      arguments: of Python; {} is the folder.
      source: a run that is copied, without its evaluations, before the work begins; None = there is no folder.
      content: of the folder after the undisturbed work.
      began_s, ended_s: processor time of the process when the folder was there, and at its end.
      kills: of this kind so far.
    """

    name: str
    arguments: list[str]
    source: Path | None = None
    content: dict[str, str] = dataclasses.field(default_factory=dict)
    began_s: float = 0.0
    ended_s: float = 0.0
    kills: int = 0


def main() -> int:
    """Kills and compares; the exit status is 1 where something differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default="train,convert,pack,evaluate,dump", help="names with commas between")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="occjax-killer-") as name:
        works = [work for work in all_work(Path(name)) if work.name in options.kinds.split(",")]
        differences = kill_all(works, Path(name), options.kills, random.Random(options.seed))
    say(f"\n{'kind':10}{'kills':>7}   processor time undisturbed, and before the folder is there")
    for work in works:
        say(f"{work.name:10}{work.kills:7d}   {work.ended_s:.1f} s, {work.began_s:.1f} s")
    say(f"{sum(work.kills for work in works)} kills, {len(differences)} differences")
    for line in differences:
        say(f"  {line}")
    return 1 if differences else 0


def all_work(folder: Path) -> list[Work]:
    """The five kinds, over a city and a trained run that are made first."""
    root, trained = folder / "city/nuscenes", folder / "trained"
    prepare(tiny_config(root))
    config = folder / "tiny.py"
    config.write_text(
        "from pathlib import Path\nfrom tiny_world import tiny_config\n\n\ndef get_config():\n"
        f"    config = tiny_config(Path({str(root)!r}))\n    config.train.eval_every = 3\n    return config\n"
    )
    main_py, converters = str(REPOSITORY / "main.py"), REPOSITORY / "converters"
    train = [main_py, f"--config={config}", "--workdir={}"]
    run_to_end(Work("", train), trained, folder / "log")
    tables = [f"--data-root={root}", "--version=v1.0-synthetic", f"--splits-file={root / 'splits.json'}"]
    convert = [str(converters / "teacher_to_npz.py"), f"--input={root / 'teacher_dump'}", "--skip-existing"]
    pack = [str(converters / "pack.py"), f"--config={config}", "--samples-per-shard=1", "--workers=2"]
    return [
        Work("train", train),
        Work("convert", [*convert, *tables, "--output={}"]),
        Work("pack", [*pack, "--output={}"]),
        Work("evaluate", [main_py, "--mode=eval", "--save_predictions", "--workdir={}"], source=trained),
        Work("dump", [main_py, "--mode=dump", f"--workdir={trained}", "--output={}"]),
    ]


def kill_all(works: list[Work], folder: Path, kills: int, random_: random.Random) -> list[str]:
    """Does each kind undisturbed, then kills; what differs, a line each."""
    differences: list[str] = []
    log = folder / "log"
    for work in works:
        for _ in range(2):  # the first one fills the cache of compiled programs
            target = begin(work, folder / work.name)
            work.began_s, work.ended_s = undisturbed(work, target, log)
        work.content = content_of(target)
        say(f"{work.name}: undisturbed, {len(work.content)} files, {work.ended_s:.1f} s of processor time")
    started, done = time.monotonic(), 0
    while done < kills:
        # Each kind first, so that few kills have all of them.
        work = works[done] if done < len(works) else random_.choice(works)
        target, moments = begin(work, folder / f"{work.name}-killed"), []
        while not moments or (done < kills and random_.random() < 0.5):
            share = random_.random()
            if not killed(work, target, share, log, all_of_it=random_.random() < 0.5):
                break  # it came to its end before
            moments.append(f"{share:.2f}")
            work.kills += 1
            done += 1
        if not moments:
            continue
        status = run_to_end(work, target, log)
        found = differences_of(work, target) if status == 0 else [f"exit status {status}: {tail(log)}"]
        what = f"{work.name}, killed at {', '.join(moments)} of its time"
        differences += [f"{what}: {line}" for line in found]
        left = (time.monotonic() - started) / done * (kills - done)
        say(f"{done}/{kills} kills, {what}: {len(found)} differences, {left / 60:.0f} min left")
    return differences


def begin(work: Work, target: Path) -> Path:
    """The folder as it is before the work."""
    shutil.rmtree(target, ignore_errors=True)
    if work.source is not None:
        shutil.copytree(work.source, target)
        shutil.rmtree(target / "eval")
    return target


def start(work: Work, target: Path, log: Path) -> subprocess.Popen:
    """Begins the work or goes on with it, in a process group of its own."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(SUPPORT),
        # One for all of them.
        "JAX_COMPILATION_CACHE_DIR": str(log.parent / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    command = [sys.executable, *(argument.replace("{}", str(target)) for argument in work.arguments)]
    with log.open("wb") as output:
        return subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, cwd=REPOSITORY, start_new_session=True
        )


def run_to_end(work: Work, target: Path, log: Path) -> int:
    """Exit status of the work."""
    return start(work, target, log).wait(_PATIENCE_S)


def tail(log: Path) -> str:
    """The last words of a command."""
    return " ".join(log.read_text(errors="replace").split())[-300:]


def processor_s(pid: int) -> float:
    """Processor time of a process so far; 0 where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def undisturbed(work: Work, target: Path, log: Path) -> tuple[float, float]:
    """Does the work; its processor time when the folder was there, and at the end."""
    began = last = 0.0
    filled = target / "eval" if work.source is not None else target
    process = start(work, target, log)
    while process.poll() is None:
        last = max(last, processor_s(process.pid))
        if not began and filled.exists():
            began = last
        time.sleep(0.01)
    if process.returncode:
        raise SystemExit(f"{work.name} ends with status {process.returncode}: {tail(log)}")
    return began, last


def killed(work: Work, target: Path, share: float, log: Path, *, all_of_it: bool) -> bool:
    """Begins or goes on, and kills; whether there was anything to kill.

    Args:
      work: kind.
      target: its folder.
      share: of the processor time between the folder and the end.
      log: gets its output.
      all_of_it: kill the processes that it started, too; else these have to see for themselves that it is gone.
    """
    process = start(work, target, log)
    moment = work.began_s + share * (work.ended_s - work.began_s)
    while process.poll() is None and processor_s(process.pid) < moment:
        time.sleep(0.002)
    if process.poll() is not None:
        return False
    (os.killpg if all_of_it else os.kill)(process.pid, signal.SIGKILL)
    process.wait()
    wait_for_group(process.pid)
    return True


def wait_for_group(group: int) -> None:
    """Returns once no process of the group is left; raises SystemExit where one does not end."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise SystemExit(f"processes of group {group} are left two minutes after their parent was killed")


def differences_of(work: Work, target: Path) -> list[str]:
    """What lies in the folder and what should, a line for each thing that differs."""
    found = content_of(target)
    return [
        f"{name} {'is left' if name not in work.content else 'is missing' if name not in found else 'differs'}"
        for name in sorted(found.keys() | work.content.keys())
        if found.get(name) != work.content.get(name)
    ]


if __name__ == "__main__":
    sys.exit(main())

"""A teacher's network into both doors: the same files as from its dump, in any number of runs, and refusals."""

import filecmp
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from dump_world import GRID, World
from told_teacher import ToldTeacher

from occjax.classes import NUM_CLASSES
from occjax.config import NUSCENES_CAMERAS, DataConfig
from occjax.convert.dump.arrays import DumpError
from occjax.convert.dump.audit_dump import AuditError
from occjax.convert.dump.convert import convert_dump
from occjax.convert.dump.options import DumpOptions
from occjax.convert.dump.surface import KINDS, SurfaceOptions
from occjax.convert.weights.teach import TeacherSource, teach
from occjax.errors import DataError, UserError
from occjax.grid import VoxelGrid
from occjax.label_sets import LABEL_SETS
from occjax.metrics.protocols import VoxelMiou
from occjax.targets.folder import TeacherFolder

MADE = TeacherSource(
    "weights model gs6400, sha256 1234",
    {"weights": {"file": "w.pth", "model": "gs6400", "draws": "3", "backbone_dtype": "float32"}},
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("teach") / "nuscenes", NUSCENES_CAMERAS)


def surface(folder: Path) -> SurfaceOptions:
    # Not deflated: that takes longer than all the rest.
    return SurfaceOptions(also=tuple(KINDS), also_dir=str(folder), dump_3d_compress=False, bev_prob_compress=False)


def run(world, output, *, teacher=None, made=MADE, lines=None, surface=None, **options):
    chosen = DumpOptions(grid=GRID, surface=surface or SurfaceOptions(), skip_existing=True, **options.pop("how", {}))
    return teach(
        teacher or ToldTeacher(world),
        made,
        output,
        data_config=options.pop("data", world.data),
        options=chosen,
        workers=2,
        progress=[].append if lines is None else lines.append,
        **options,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def logits_of(values):
    """Logits that are nowhere negative, as additive Gaussians give them: their numbers do not say what they are."""
    return (np.log(np.maximum(values.astype(np.float32), 1e-6)) + 14).astype(np.float16)


@pytest.mark.parametrize("kind", ["probabilities", "logits"])
def test_the_dump_read_back_gives_the_same_files_bit_for_bit(world, tmp_path, kind):
    teacher = ToldTeacher(world, value_kind=kind, at_once=2, change=logits_of if kind == "logits" else lambda v: v)
    lines = []
    done = run(world, tmp_path / "a", teacher=teacher, surface=surface(tmp_path / "dump"), lines=lines)
    assert (done.written, done.kept, done.failures) == (5, 0, []) and done.kinds == {kind: 5}
    assert sorted(teacher.asked) == sorted(world.dumped), "the audit's predictions are written, not made again"
    assert any("true pairing" in line for line in lines) and any("5/5 samples" in line for line in lines)
    read = convert_dump(
        tmp_path / "dump", tmp_path / "b", data_config=world.data, options=DumpOptions(grid=GRID), audit=True
    )
    assert read.written == 5 and read.failures == []
    names = [f"{token}.npz" for token in world.dumped]
    assert filecmp.cmpfiles(tmp_path / "a", tmp_path / "b", names, shallow=False)[0] == names
    folder = TeacherFolder(tmp_path / "a", GRID, data=DataConfig(root="data/nuscenes"))
    assert folder.manifest["value_kind"] == {kind: 5} and folder.manifest["weights"] == MADE.details["weights"]
    assert folder.completing_command() == (
        f"occjax convert-teacher --weights=w.pth --output={tmp_path / 'a'} --data-root=data/nuscenes "
        "--model=gs6400 --draws=3"
    )
    assert done.kl is not None and done.kl < 5e-3


def test_any_shards_give_what_one_run_gives(world, tmp_path):
    run(world, tmp_path / "one/teacher", surface=surface(tmp_path / "one/dump"))
    # Out of order, and the last one while the first is asked again.
    for number in (2, 0, 1, 0):
        run(world, tmp_path / "three/teacher", surface=surface(tmp_path / "three/dump"), shard=(number, 3))
    assert contents(tmp_path / "three") == contents(tmp_path / "one")
    # Folders of their own, put together: the last run only counts.
    for number in range(2):
        run(world, tmp_path / f"{number}/teacher", surface=surface(tmp_path / f"{number}/dump"), shard=(number, 2))
        shutil.copytree(tmp_path / f"{number}", tmp_path / "merged", dirs_exist_ok=True)
    # Each sample once: what two machines do twice costs an hour of one.
    shares = [len(list((tmp_path / f"{number}/teacher").glob("*.npz"))) for number in range(2)]
    assert sorted(shares) == [2, 3]
    counting = ToldTeacher(world)
    run(world, tmp_path / "merged/teacher", teacher=counting, surface=surface(tmp_path / "merged/dump"))
    assert counting.asked == [] and contents(tmp_path / "merged") == contents(tmp_path / "one")
    assert len(contents(tmp_path / "one")) == 5 * (1 + len(KINDS)) + 2


def test_a_run_that_was_killed_is_completed_byte_for_byte(world, tmp_path):
    run(world, tmp_path / "whole/teacher", surface=surface(tmp_path / "whole/dump"))
    tokens = [token for _, _, token, _ in world.samples]
    dying = ToldTeacher(world, fails={tokens[3]: KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        run(world, tmp_path / "cut/teacher", teacher=dying, surface=surface(tmp_path / "cut/dump"), audit=False)
    there = {path.stem for path in (tmp_path / "cut/teacher").glob("*.npz")}
    assert 0 < len(there) < 5 and (tmp_path / "cut/teacher/manifest.json").exists()
    # As SIGKILL leaves them: half a file, a map without its teacher file, a manifest that counts nothing.
    (tmp_path / f"cut/teacher/.{tokens[4]}.npz.4711.tmp").write_bytes(b"half")
    lost = sorted(there)[0]
    (tmp_path / f"cut/teacher/{lost}.npz").unlink()
    again = ToldTeacher(world)
    done = run(world, tmp_path / "cut/teacher", teacher=again, surface=surface(tmp_path / "cut/dump"))
    assert done.kept == len(there) - 1 and done.written == 5 - done.kept
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    # What the dump lacks is written too, where the teacher's file is there.
    next((tmp_path / "cut/dump/bev_vis/train").iterdir()).unlink()
    assert run(world, tmp_path / "cut/teacher", surface=surface(tmp_path / "cut/dump")).written == 1
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_folders_of_other_weights_or_options_are_refused_with_the_command_that_mends_it(world, tmp_path):
    out, dump = tmp_path / "teacher", tmp_path / "dump"
    run(world, out, surface=SurfaceOptions(also=("bev_sem",), also_dir=str(dump)), audit=False)
    other = TeacherSource("weights model gs6400, sha256 5678", {})
    with pytest.raises(DumpError, match=rf"another source \(.*1234, now .*5678\).*rm -r {out}"):
        run(world, out, made=other)
    with pytest.raises(DumpError, match=rf"a dump of another source.*rm -r {dump}"):
        run(world, tmp_path / "new", made=other, surface=SurfaceOptions(also=("bev_sem",), also_dir=str(dump)))
    changed = SurfaceOptions(also=("bev_sem",), also_dir=str(dump), bev_scan_direction="high2low")
    with pytest.raises(DumpError, match=r"another --bev-scan-direction \(low2high, now high2low\)"):
        run(world, out, surface=changed)
    with pytest.raises(DumpError, match="folder of the teacher files"):
        run(world, out, surface=SurfaceOptions(also=("bev_sem",), also_dir=str(out)))
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/x.npz").write_bytes(b"")
    with pytest.raises(DumpError, match="holds .npz files but no manifest.json"):
        run(world, tmp_path / "foreign")
    # More kinds of the same dump are added to it.
    run(world, out, surface=SurfaceOptions(also=("gt_bev",), also_dir=str(dump)))
    assert json.loads((dump / "manifest.json").read_text())["kinds"] == ["bev_sem", "gt_bev"]


def test_a_teacher_that_knows_nothing_is_refused_unless_the_audit_is_off(world, tmp_path):
    def random(values):
        r = np.random.default_rng(int(values.sum(dtype=np.float64)))
        return r.dirichlet(np.ones(NUM_CLASSES), GRID.shape).astype(np.float16)

    teacher = ToldTeacher(world, change=random)
    with pytest.raises(AuditError, match="what the teacher predicts is refused, nothing was written.*--no-audit"):
        run(world, tmp_path / "out", teacher=teacher, surface=surface(tmp_path / "dump"))
    assert not (tmp_path / "out").exists() and not (tmp_path / "dump").exists()
    done = run(world, tmp_path / "out", teacher=teacher, audit=False)
    assert done.written == 5 and TeacherFolder(tmp_path / "out", GRID).manifest["audit"] is None


def test_what_a_sample_lacks_is_named_and_the_rest_is_written(world, tmp_path):
    tokens = [token for _, _, token, _ in world.samples]
    teacher = ToldTeacher(world, fails={tokens[1]: UserError("no room for three cameras")})
    done = run(world, tmp_path / "out", teacher=teacher)
    assert done.written == 4 and done.failures == [(tmp_path / f"out/{tokens[1]}.npz", "no room for three cameras")]
    assert TeacherFolder(tmp_path / "out", GRID).missing(tokens) == [tokens[1]]


def test_images_that_are_absent_or_of_another_size_are_refused_before_anything_is_predicted(world, tmp_path):
    teacher = ToldTeacher(world)
    teacher.image_size = (900, 1600)
    with pytest.raises(DataError, match="wants images of 1600×900, and 4 samples of split train have others"):
        run(world, tmp_path / "out", teacher=teacher)
    front = World(tmp_path / "front")
    with pytest.raises(DataError, match="six cameras, but the tables lack CAM_FRONT_RIGHT"):
        run(front, tmp_path / "out")
    with pytest.raises(DumpError, match="5 of 5 samples have none.*leave the gt_ kinds out"):
        data = DataConfig(root=str(world.root), labels_dir=str(tmp_path))
        run(world, tmp_path / "out", data=data, surface=surface(tmp_path / "dump"))
    assert teacher.asked == [] and not (tmp_path / "out").exists()


def test_the_score_is_that_of_the_protocol(world, tmp_path):
    lines = []
    run(world, tmp_path / "out", lines=lines, print_every_s=0.0)
    state = VoxelMiou.empty(LABEL_SETS["surroundocc"], GRID)
    for token, probabilities in world.dumped.items():
        state = state.update(probabilities.argmax(0).astype(np.uint8), world.labels[token])
    summary = state.compute()[0].summary
    wanted = f"mIoU {100 * summary['miou']:.2f}, IoU {100 * summary['iou']:.2f}"
    assert wanted in lines[-1] and "SurroundOcc mIoU/IoU of 5 samples, truth 0 left out" in lines[-1]
    assert any(wanted in line and "5/5 samples" in line for line in lines[:-1])
    lines = []
    run(world, tmp_path / "silent", lines=lines, metric=False)
    assert not any("mIoU" in line for line in lines if "audit" not in line and "pairing" not in line)


def test_limits_and_another_grid(world, tmp_path):
    done = run(world, tmp_path / "out", how={"max_samples": 1, "splits": ("train",)}, audit=False)
    assert done.written == 1 and TeacherFolder(tmp_path / "out", GRID).missing([world.samples[0][2]]) == []
    ego = VoxelGrid("ego", (-8.0, -8.0, -1.0), 0.4, (40, 40, 16))
    run(world, tmp_path / "ego", how={"output_grid": ego, "max_samples": 1})
    folder = TeacherFolder(tmp_path / "ego", ego)
    assert folder.manifest["contents"]["validity"] and folder.manifest["audit"]["samples"] == 2
    run(world, tmp_path / "dense", how={"form": "dense", "max_samples": 1}, audit=False)
    assert TeacherFolder(tmp_path / "dense", GRID).manifest["form"] == "dense"

"""A teacher's checkpoint on the command line: what is wrong with it ends in a message, what is right becomes files."""

import hashlib
import json

import jax
import numpy as np
import pytest
from real_keyframes import real_config
from teacher_recipe import checkpoint_shapes, recipe_value
from torch_files import tensor, write, write_legacy

from occjax.convert.dump.output import Conversion
from occjax.data.index import load_index
from occjax.grid import SURROUNDOCC_GRID
from occjax.run import convert_teacher, teacher_weights
from occjax.run.convert_teacher import main
from occjax.run.evaluate import evaluate_teacher
from occjax.run.scoring import Outputs
from occjax.run.train import train
from occjax.system.mesh import make_mesh
from occjax.targets.folder import TeacherFolder
from occjax.teacher.teacher import Teacher
from occjax.teacher.variants import VARIANTS


@pytest.fixture
def root(tmp_path):
    (tmp_path / "nuscenes/v1.0-trainval").mkdir(parents=True)
    return tmp_path / "nuscenes"


def checkpoint(path, names, *, nested=True, write=write):
    """A checkpoint of entries [2] under these names."""
    entries = {name: tensor("0", (2,), (1,)) for name in names}
    return write(path, {"state_dict": entries} if nested else entries, {"0": np.zeros(2, np.float32)})


def refused(capsys, root, *arguments):
    assert main([*map(str, arguments), f"--data-root={root}", f"--output={root}/out"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "Traceback" not in said and not (root / "out").exists()
    return said


def test_damaged_and_foreign_checkpoints_end_in_a_message(root, tmp_path, capsys):
    whole = checkpoint(tmp_path / "whole.pth", ["conv1.weight"])
    (tmp_path / "cut.pth").write_bytes(whole.read_bytes()[:-50])
    (tmp_path / "page.pth").write_text("<html>")
    for name, message in (
        ("none.pth", "no weight file"),
        ("cut.pth", "not a complete zip archive"),
        ("page.pth", "neither a"),
        ("whole.pth", "can be told from a checkpoint"),
    ):
        said = refused(capsys, root, f"--weights={tmp_path / name}")
        assert message in said and len(said.splitlines()) == 1
    said = refused(capsys, root, f"--weights={whole}", "--model=gs6400")
    assert "missing: img_backbone.conv1.weight" in said and "unexpected: conv1.weight" in said


@pytest.mark.parametrize("container", [write, write_legacy])
@pytest.mark.parametrize("nested", [True, False])
def test_either_container_is_read_and_a_backbone_alone_is_called_by_its_name(root, tmp_path, capsys, container, nested):
    names = ["img_backbone.layer3.0.conv2.conv_offset.weight", "bbox_head.scale"]
    path = checkpoint(tmp_path / "fcos3d.pth", names, nested=nested, write=container)
    said = refused(capsys, root, f"--weights={path}", "--model=gs25600")
    assert "image backbone alone" in said and len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--output=o",), "either a dump, --input=DIR, or a checkpoint"),
        (("--input=d", "--weights=w", "--output=o"), "either a dump"),
        (("--weights=w",), "--output=DIR"),
        (("--input=d", "--also=bev_sem", "--also-dir=a"), "--output=DIR"),
        (("--input=d", "--output=o", "--draws=2"), "--draws means nothing with --input"),
        (("--input=d", "--output=o", "--no-metric"), "--metric means nothing with --input"),
        (("--weights=w", "--output=o", "--draws=none"), "--draws"),
        (("--weights=w", "--output=o", "--shard=2/2"), "--shard"),
    ],
)
def test_options_that_do_not_go_together(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    said = capsys.readouterr().err
    assert ended.value.code == 2 and message in said and len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--free-id=0", "leave --free-id out"),
        ("--source-grid=occ3d", "leave --source-grid out"),
        ("--infos=train=x.pkl", "leave it out"),
        ("--also=bev_sem", "give both, or neither"),
        ("--spatial-shape=100,100,8", "see --source-grid"),
    ],
)
def test_options_that_describe_a_dump_are_refused(root, options, message, capsys):
    assert message in refused(capsys, root, "--weights=w", options)


def test_every_published_model_can_be_named():
    assert set(convert_teacher._MODELS) == set(VARIANTS)


def test_what_the_options_come_to(root, tmp_path, monkeypatch, capsys):
    """The dump script's own command line, pasted."""
    asked = {}

    class Loaded:
        variant = VARIANTS["gs6400"]

    def teach(predictor, made, output, **how):
        asked.update(how, made=made, output=output)
        return Conversion(output, made.source, SURROUNDOCC_GRID)

    monkeypatch.setattr(teacher_weights, "_load", lambda *asked: (Loaded(), "abc"))
    monkeypatch.setattr(teacher_weights, "NetworkPredictor", lambda teacher, mesh, draws: argparse_like(draws))
    monkeypatch.setattr(teacher_weights, "teach", teach)
    given = [f"--dump_3d_dir={tmp_path}/x", "--dump_3d_type=logits", "--dump-3d-key=pred_occ", "--max_samples=4"]
    given += [f"--dump-bev-dir={tmp_path}/y", f"--dump-bev-prob-dir={tmp_path}/z", "--bev-prob-type=prob"]
    given += [
        "--also=gt_bev",
        f"--also_dir={tmp_path}/dump",
        "--no_metric",
        "--draws=3",
        "--dup_mode=cpu_last",
        "--shard=1/4",
    ]
    assert main([f"--weights={tmp_path}/w.pth", f"--data-root={root}", *given]) == 0
    assert {kind: str(folder.relative_to(tmp_path)) for kind, folder in asked["options"].surface.folders.items()} == {
        "bev_sem": "y",
        "bev_prob": "z",
        "occ3d_logits": "x",
        "gt_bev": "dump/gt_bev",
    }
    options, made = asked["options"], asked["made"]
    assert (options.skip_existing, options.max_samples, options.surface.bev_prob_type) == (True, 4, "prob")
    assert (asked["shard"], asked["metric"], asked["audit"]) == ((1, 4), False, True)
    assert asked["output"] == tmp_path / "dump/teacher"
    assert f"gt_bev in {tmp_path}/dump/gt_bev" in capsys.readouterr().out
    assert made.source == "weights, model gs6400, sha256 abc, draws 3, backbone_dtype float32, dup_mode cpu_last"
    assert made.details["weights"]["file"] == f"{tmp_path}/w.pth"


@pytest.mark.parametrize(("draws", "mode"), [("argmax", "argmax"), ("4", "drawn")])
def test_the_network_is_run_as_the_options_say(tmp_path, monkeypatch, draws, mode):
    path = tmp_path / "w.pth"
    path.write_bytes(b"weights")
    monkeypatch.setattr(teacher_weights, "read_state_dict", lambda path, which: {"a": np.ones(2)})
    asked = {}

    def load_teacher(arrays, model, **how):
        asked.update(how, arrays=list(arrays))
        return Teacher(VARIANTS[model], {})

    monkeypatch.setattr(teacher_weights, "load_teacher", load_teacher)
    teacher, sha256 = teacher_weights._load(path, "gs6400", draws, "bfloat16", "one_of")
    assert teacher.variant.name == "gs6400"
    assert asked == {"arrays": ["a"], "depth_mode": mode, "backbone_dtype": "bfloat16", "dup_mode": "one_of"}
    assert sha256 == hashlib.sha256(b"weights").hexdigest()


def argparse_like(draws):
    """What a predictor says of itself."""
    assert draws == 3
    return type("Predictor", (), {"at_once": 1})()


@pytest.mark.slow
def test_from_a_recipes_weights_to_a_student(shared_dir, tmp_path, capsys, monkeypatch):
    """Weights of nobody's training: the audit refuses them, as it must; without it everything else follows."""
    # The tests' virtual devices share one memory: a network is enough.
    one = make_mesh(jax.devices()[:1])
    monkeypatch.setattr(teacher_weights, "make_mesh", lambda devices: one)
    entries, storages = {}, {}
    for number, (name, shape) in enumerate(checkpoint_shapes(VARIANTS["gs6400"]).items()):
        storages[str(number)] = recipe_value(name, shape, 7)
        strides = tuple(s // storages[str(number)].itemsize for s in storages[str(number)].strides)
        kind = "LongStorage" if storages[str(number)].dtype == np.int64 else "FloatStorage"
        entries[name] = tensor(str(number), shape, strides, storage=kind)
    weights = write(tmp_path / "state_dict.pth", {"state_dict": entries, "epoch": 20}, storages)
    config = real_config(shared_dir, tmp_path)
    common = [f"--data-root={config.data.root}", f"--index-dir={config.data.index_dir}"]
    door = [f"--weights={weights}", f"--output={tmp_path / 'teacher'}", *common]

    assert main([*door, "--splits=val"]) == 2
    assert "what the teacher predicts is refused, nothing was written" in capsys.readouterr().err
    assert not (tmp_path / "teacher").exists()

    assert main([*door, "--no-audit", "--also=occ3d_logits,bev_sem", f"--also-dir={tmp_path / 'dump'}"]) == 0
    said = capsys.readouterr().out
    assert "SurroundOcc mIoU/IoU of 2 samples" in said and "MB per sample" in said
    manifest = TeacherFolder(tmp_path / "teacher", config.grid.build()).manifest
    assert manifest["weights"]["model"] == "gs6400" and manifest["value_kind"] == {"probabilities": 2}
    back = [f"--input={tmp_path / 'dump'}", f"--output={tmp_path / 'back'}", "--no-audit", "--workers=1", *common]
    assert main(back) == 0
    files = sorted((tmp_path / "teacher").glob("*.npz"))
    assert len(files) == 2
    assert all(path.read_bytes() == (tmp_path / "back" / path.name).read_bytes() for path in files)

    index = load_index(config.data)
    scored = evaluate_teacher(config, index, split="val", output_dir=tmp_path / "scored", outputs=Outputs())
    assert scored.results["samples"] == 1
    train(config, tmp_path / "run", mesh=one)
    entries = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert all(e["voxel_kl"] > 0 for e in entries if e["group"] == "train")

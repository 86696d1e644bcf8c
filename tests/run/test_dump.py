"""A student as teacher: what it writes is what it says, sample by sample, and another student learns from it."""

import dataclasses
import filecmp
import functools
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tiny_world import tiny_config

from occjax.convert.dump.convert import convert_dump
from occjax.convert.dump.options import DumpOptions
from occjax.convert.dump.surface import SurfaceOptions
from occjax.data.index import load_index
from occjax.data.parts import Parts
from occjax.data.pipeline import make_eval_loader, make_train_loader
from occjax.errors import UserError
from occjax.predict.forward import make_predictor
from occjax.predict.stored_weights import restore
from occjax.run.dump import dump_workdir
from occjax.run.evaluate import evaluate_workdir
from occjax.run.scoring import Outputs
from occjax.run.visualize import visualize_workdir
from occjax.run.workdir import open_workdir
from occjax.system.mesh import make_mesh, replicated
from occjax.targets.folder import TeacherFolder
from occjax.targets.moving import dense_log_probs
from occjax.train.checkpoint import Checkpoints
from occjax.train.learner import initial_state, make_learner
from occjax.train.parts import training_parts
from occjax.train.step import gradients

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def run(world, tmp_path_factory):
    """A workdir with an untrained student that has opinions, and the configuration of it without a teacher."""
    workdir = tmp_path_factory.mktemp("run") / "opinions"
    config = tiny_config(world)
    config.data.teacher_dir = ""
    config.loss.distill.switch_off()
    open_workdir(workdir, config)
    state = initial_state(make_learner(config, 1), replicated(make_mesh()))
    # Untrained logits hardly differ; the averages alone get opinions, so that raw weights would be told apart.
    state.ema["params"]["head"]["out"]["kernel"] *= 150
    checkpoints = Checkpoints(workdir)
    checkpoints.save(7, state._replace(step=jnp.int32(7)), {"next_batch": 7})
    checkpoints.close()
    return config, workdir


@pytest.fixture(scope="module")
def dumped(run, tmp_path_factory):
    config, workdir = run
    folder = tmp_path_factory.mktemp("dump")
    output = folder / "teacher"
    surface = SurfaceOptions(also=("occ3d_logits", "bev_sem"), also_dir=str(folder / "surface"))
    # Images are all that it reads.
    unlabelled = dataclasses.replace(config, data=dataclasses.replace(config.data, labels_dir=str(output / "nowhere")))
    return dump_workdir(unlabelled, workdir, output, surface=surface), output


def test_every_sample_holds_the_softmax_of_the_student(run, dumped):
    config, workdir = run
    dump, output = dumped
    assert (dump.written, dump.kept) == (9, 0) and "9 teacher files" in dump.summary()
    folder = TeacherFolder(output, config.grid.build())
    assert folder.manifest["samples"] == 9 and folder.manifest["source"] == "opinions, step 7, ema weights"
    assert folder.completing_command() == f"occjax --mode=dump --workdir={workdir} --output={output}"

    mesh = make_mesh()
    weights = restore(config, workdir, mesh)
    student = make_predictor(config, mesh, lambda logits, _: jax.nn.log_softmax(logits))(weights)
    index = load_index(config.data)
    (batch,) = make_eval_loader(config, index, "val", Parts(), batch_size=4)
    said = student(batch)[:3]
    written = np.stack([dense_log_probs(folder.read(t), config.grid.shape) for t in index.split("val").tokens])
    kl = [[np.mean((np.exp(s) * (s - w)).sum(-1)) for w in written] for s in said]
    # Nearly every voxel has a row of its own here; a real scene is mostly free, and loses less.
    assert max(np.diag(kl)) < 2e-3
    # Another sample's file would be noticed.
    assert min(kl[0][1], kl[0][2], kl[1][0], kl[2][0]) > 20 * max(np.diag(kl))


def test_the_dump_surface_read_back_gives_the_same_files_bit_for_bit(run, dumped, tmp_path):
    config, _ = run
    _, output = dumped
    options = DumpOptions(grid=config.grid.build())
    surface = output.parent / "surface"
    read = convert_dump(surface, tmp_path / "back", data_config=config.data, options=options, audit=False)
    assert read.written == 9 and read.failures == []
    names = [path.name for path in output.glob("*.npz")]
    assert filecmp.cmpfiles(output, tmp_path / "back", names, shallow=False)[0] == names
    assert len(list(surface.glob("bev_sem/*/*_0_bev_sem.npy"))) == 9
    manifest = json.loads((surface / "manifest.json").read_text())
    assert manifest["source"] == "opinions, step 7, ema weights" and manifest["value_kind"] == "probabilities"


def test_a_dump_goes_on_where_it_was_cut_off(run, dumped):
    config, workdir = run
    _, output = dumped
    manifest = json.loads((output / "manifest.json").read_text())
    lost = output / f"{load_index(config.data).split('val').tokens[1]}.npz"
    lost.unlink()
    # As a killed process leaves it: the manifest counts nothing yet.
    (output / "manifest.json").write_text(json.dumps({**manifest, "samples": 0, "max_active_voxels": 0}))
    again = dump_workdir(config, workdir, output)
    assert (again.written, again.kept) == (1, 8) and lost.exists()
    mended = json.loads((output / "manifest.json").read_text())
    assert {**mended, "versions": None} == {**manifest, "versions": None}

    # As far as a dump of the first samples would get, the third of val is lacking.
    (output / f"{load_index(config.data).split('val').tokens[2]}.npz").rename(output.parent / "third.npz")
    config.eval.max_samples = 2
    try:
        partial = dump_workdir(config, workdir, output)
    finally:
        config.eval.max_samples = 0
        (output.parent / "third.npz").rename(lost.with_name(f"{load_index(config.data).split('val').tokens[2]}.npz"))
    assert partial.summary().startswith("partial: 2 of 6 samples of split train and 2 of 3 samples of split val, by ")
    assert json.loads((output / "manifest.json").read_text())["partial"] == partial.partial
    assert dump_workdir(config, workdir, output).partial == ""

    config.eval.weights = "raw"
    try:
        with pytest.raises(UserError, match="ema weights.*raw weights.*choose another --output"):
            dump_workdir(config, workdir, output)
    finally:
        config.eval.weights = "ema"


def test_the_dump_agrees_with_its_student_and_the_next_one_learns_from_it(run, dumped):
    config, workdir = run
    _, output = dumped
    config = tiny_config(Path(config.data.root))
    config.data.teacher_dir = str(output)
    agreement = evaluate_workdir(config, workdir, outputs=Outputs()).results["teacher_agreement"]
    assert agreement["same_class"] > 97 and agreement["kl_nats"] < 2e-3

    loss = config.loss
    loss.scene_class_affinity = loss.lovasz = loss.depth = 0.0
    loss.distill.bev_kl = loss.distill.channel_wise = loss.distill.bev_feature = 0.0
    batch = next(make_train_loader(config, load_index(config.data), training_parts(config)))
    learner = make_learner(config, 1)
    state = initial_state(learner, replicated(make_mesh(jax.devices()[:1])))
    _, terms, _ = jax.jit(functools.partial(gradients, learner))(
        state.params, state.batch_stats, batch, jax.random.key(0), jnp.asarray(True)
    )
    assert 0.01 < float(terms["voxel_kl"]) < 100 and 0.01 < float(terms["gradient_ratio"]) < 100


def test_pictures_of_the_newest_checkpoint(run):
    config, workdir = run
    token = load_index(config.data).split("train").tokens[4]
    (path,) = visualize_workdir(config, workdir, tokens=[token], scene="", movie_format="")
    assert path.parent == workdir / "pictures" and token in path.name
    assert np.asarray(Image.open(path)).std() > 20
    with pytest.raises(UserError, match="no best checkpoint"):
        visualize_workdir(config, workdir, tokens=[token], scene="", movie_format="", best=True)


def command(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "main.py", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )


def test_eval_of_the_teacher_needs_no_checkpoint(world, run, tmp_path):
    open_workdir(tmp_path, tiny_config(world))
    result = command("--mode=eval", "--teacher", "--save_predictions", f"--workdir={tmp_path}")
    assert result.returncode == 0, result.stderr
    assert "teacher" in result.stdout and "mIoU" in result.stdout
    assert json.loads((tmp_path / "eval/teacher/metrics.json").read_text())["samples"] == 3
    assert len(list((tmp_path / "eval/teacher/predictions").glob("*.npz"))) == 3
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--mode=eval", "--scene=scene-0001"), "--scene means nothing in --mode=eval; it belongs to --mode=visualize"),
        (("--mode=visualize", "--tokens=a", "--movie=gif"), "--movie films a scene"),
        (("--mode=dump",), "--output=DIR"),
        (("--mode=eval", "--also_dir=x"), "--also-dir means nothing in --mode=eval; it belongs to --mode=dump"),
    ],
)
def test_flags_that_do_not_fit_the_mode_are_refused(arguments, message):
    result = command(*arguments)
    assert result.returncode == 2 and message in result.stderr and "Traceback" not in result.stderr

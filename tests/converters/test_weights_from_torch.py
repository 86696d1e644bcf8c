"""PyTorch weights become a run or a backbone, or are refused whole."""

import copy
import dataclasses
import hashlib

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.traverse_util import flatten_dict
from small import small_config
from tiny_world import tiny_config
from torch_files import tensor, write
from torch_resnet import resnet_file

from occjax import run_config
from occjax.config import BackboneConfig, Config
from occjax.convert import torch_weights
from occjax.convert.torch_names import student_entries
from occjax.data.index import load_index
from occjax.models.resnet import BackboneWeightsError, ResNet, load_backbone_weights, require_backbone_weights
from occjax.models.student import abstract_student, split_student
from occjax.run import convert_weights
from occjax.run.dump import dump_workdir
from occjax.run.evaluate import evaluate_workdir
from occjax.run.scoring import Outputs
from occjax.run.train import TrainingRun, train
from occjax.system.mesh import make_mesh
from occjax.train.checkpoint import Checkpoints
from occjax.train.learner import abstract_state, make_learner


def run(*flags):
    return convert_weights.main([str(flag) for flag in flags])


def test_resnet_becomes_backbone_weights(tmp_path, small_backbone, capsys):
    theirs = resnet_file(tmp_path / "r.pth", small_backbone)
    assert run("--kind=resnet", "--depth=18", f"--input={tmp_path}/r.pth", f"--output={tmp_path}/out/r.npz") == 0
    said = capsys.readouterr().out
    assert "1 step counters, fc.weight, fc.bias" in said
    _, params, stats = split_student(ResNet(small_backbone, rngs=nnx.Rngs(0)))
    config = dataclasses.replace(small_backbone, weights=str(tmp_path / "out/r.npz"))
    params, stats = load_backbone_weights(
        config, {"backbone": params, "other": {"kept": jnp.ones(1)}}, {"backbone": stats}
    )
    assert params["other"]["kept"] == 1
    kernel = params["backbone"]["stages"][1][0]["conv1"]["conv"]["kernel"]
    np.testing.assert_array_equal(kernel, theirs["layer2.0.conv1.weight"].transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(stats["backbone"]["stem"]["norm"]["var"], theirs["bn1.running_var"])


def test_all_problems_are_listed_and_nothing_is_written(tmp_path, small_backbone, capsys):
    def spoil(arrays):
        del arrays["conv1.weight"], arrays["layer3.1.bn2.running_mean"]
        arrays["layer9.weight"] = np.ones(3, np.float32)
        arrays["bn1.bias"] = np.ones(5, np.float32)
        arrays["layer1.0.bn1.bias"][0] = np.nan

    resnet_file(tmp_path / "r.pth", small_backbone, spoil)
    assert run("--kind=resnet", "--depth=18", f"--input={tmp_path}/r.pth", f"--output={tmp_path}/out/r.npz") == 2
    said = capsys.readouterr().err
    for line in (
        "5 entries",
        "missing: conv1.weight",
        "missing: layer3.1.bn2.running_mean",
        "unexpected: layer9.weight",
        "shape: bn1.bias is (5,), the model needs (4,)",
        "values: layer1.0.bn1.bias",
    ):
        assert line in said
    assert not (tmp_path / "out").exists()


def test_backbone_of_another_width_is_refused(tmp_path, small_backbone):
    resnet_file(tmp_path / "r.pth", small_backbone)
    run("--kind=resnet", "--depth=18", f"--input={tmp_path}/r.pth", f"--output={tmp_path}/r.npz")
    config = BackboneConfig(34, 8, weights=str(tmp_path / "r.npz"))
    _, params, stats = split_student(nnx.eval_shape(lambda: ResNet(config, rngs=nnx.Rngs(0))))
    with pytest.raises(BackboneWeightsError, match="shape: stem/conv/kernel") as error:
        load_backbone_weights(config, {"backbone": params}, {"backbone": stats})
    assert "missing: stages/0/2/conv1/conv/kernel" in str(error.value)


def test_absent_weights_are_answered_with_commands_that_make_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BackboneWeightsError, match="weights=''.*make data/weights/resnet18.npz"):
        require_backbone_weights(BackboneConfig(18, weights=""))
    config = BackboneConfig(18, weights="weights/mine.npz")
    with pytest.raises(BackboneWeightsError) as error:
        require_backbone_weights(config)
    _, download, convert, choice = str(error.value).splitlines()
    url = "https://download.pytorch.org/models/resnet18-f37072fd.pth"
    assert download.split() == ["curl", "--create-dirs", "-o", "weights/resnet18-f37072fd.pth", url]
    # The second command makes the file of what the first one gets.
    (tmp_path / "weights").mkdir()
    resnet_file(tmp_path / "weights/resnet18-f37072fd.pth", config)
    assert run(*convert.split()[2:]) == 0
    require_backbone_weights(config)
    assert choice.endswith("--config.model.backbone.weights=random")
    require_backbone_weights(BackboneConfig(weights="random"))


def test_state_is_chosen_and_wrappers_are_removed(tmp_path):
    ones, twos = np.ones(2, np.float32), np.full(2, 2, np.float32)
    content = {"model_state": {"module.a": tensor("0", (2,), (1,))}, "ema_state": {"module.a": tensor("1", (2,), (1,))}}
    path = write(tmp_path / "a.pth", content, {"0": ones, "1": twos})
    np.testing.assert_array_equal(torch_weights.read_state_dict(path, None)["a"].array(), ones)
    np.testing.assert_array_equal(torch_weights.read_state_dict(path, "ema_state")["a"].array(), twos)
    with pytest.raises(torch_weights.WeightsMismatchError, match="no ema_state"):
        torch_weights.read_state_dict(
            write(tmp_path / "b.pth", {"model_state": content["model_state"]}, {"0": ones}), "ema_state"
        )
    with pytest.raises(torch_weights.WeightsMismatchError, match="named tensors"):
        torch_weights.read_state_dict(write(tmp_path / "c.pth", {"epoch": 3}), None)


def test_what_is_no_tensor_is_left_out_and_named(tmp_path, capsys):
    ones = np.ones(2, np.float32)
    entries = {"a": tensor("0", (2,), (1,)), "epoch": 3} | {f"note{i}": "x" for i in range(10)}
    path = write(tmp_path / "a.pth", {"state_dict": entries}, {"0": ones})
    assert set(torch_weights.read_state_dict(path, None)) == {"a"}
    assert "left out what is no named tensor: epoch, note0, " in (said := capsys.readouterr().out)
    assert "note8 and 1 more" in said


@pytest.mark.parametrize(
    "flags", [(), ("--kind=student", "--input=x"), ("--kind=resnet", "--input=x"), ("--kind=vit",)]
)
def test_wrong_flags_are_refused(flags, capsys):
    with pytest.raises(SystemExit):
        run(*flags)
    assert "error" in capsys.readouterr().err


def test_missing_file_is_a_message(tmp_path, capsys):
    assert run("--kind=student", f"--input={tmp_path}/x.pth", f"--workdir={tmp_path}/run") == 2
    assert "no weight file" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def student_file(path, config):
    """A training checkpoint with the original's names for a student of `config`; returns the numpy arrays in it."""
    abstract = abstract_state(make_learner(config, 1))
    trees = (abstract.params["student"], abstract.batch_stats)
    shapes = {path: leaf.shape for tree in trees for path, leaf in flatten_dict(tree).items()}
    r, arrays = np.random.default_rng(0), {}
    for entry in student_entries(config.model):
        value = r.uniform(0.5, 1.5, entry.their_shape(shapes[entry.ours]))
        arrays[entry.theirs] = (value if value.ndim == 1 else 0.1 * (value - 1)).astype(np.float32)
    content = {key: tensor(key, value.shape, tuple(s // 4 for s in value.strides)) for key, value in arrays.items()}
    write(path, {"model_state": content, "epoch": 3}, arrays)
    return arrays


@pytest.fixture
def imported(world, tmp_path, monkeypatch):
    """Configuration and workdir of a tiny imported student, and its arrays by the original's names."""
    config = tiny_config(world)
    monkeypatch.setattr(convert_weights, "load_config_file", lambda name: config)
    arrays = student_file(tmp_path / "latest.pth", config)
    workdir = tmp_path / "imported"
    assert run("--kind=student", f"--input={tmp_path}/latest.pth", f"--workdir={workdir}") == 0
    return config, workdir, arrays


def test_a_student_goes_back_to_pytorch_as_it_came():
    config = Config(model=small_config(camera_norm="batch"))
    config.grid.shape, config.grid.lower_m = (16, 16, 4), (-8.0, -8.0, -2.0)
    _, params, stats = abstract_student(config.model, config.grid.build())
    shapes = {**flatten_dict(params), **flatten_dict(stats)}
    r = np.random.default_rng(0)
    came = {
        entry.theirs: r.normal(size=entry.their_shape(shapes[entry.ours].shape)).astype(np.float32)
        for entry in student_entries(config.model)
    }
    params, stats, _ = torch_weights.student_trees(config, {**came, "backbone.stem.1.num_batches_tracked": np.ones(())})
    goes = torch_weights.state_dict_of(config, params, stats)
    assert goes.keys() == came.keys()
    for key, value in came.items():
        np.testing.assert_array_equal(goes[key], value, err_msg=key)
        assert goes[key].flags.c_contiguous


def largest_move(config, state, arrays):
    leaves = flatten_dict(state.params["student"])
    entries = [entry for entry in student_entries(config.model) if entry.ours in leaves]
    return max(np.abs(entry.to_torch(np.asarray(leaves[entry.ours])) - arrays[entry.theirs]).max() for entry in entries)


def test_training_starts_from_the_imported_weights(imported):
    config, workdir, arrays = imported
    started = TrainingRun(config, workdir, make_mesh(), load_index(config.data))
    try:
        assert started.step == 0 and largest_move(config, started.state, arrays) == 0
    finally:
        started.close()


@pytest.mark.slow
def test_an_imported_run_is_evaluated_dumped_and_fine_tuned(imported, tmp_path):
    config, workdir, arrays = imported
    # The teacher that the configuration names need not be there to look at the imported weights.
    apart = copy.deepcopy(config)
    apart.data.teacher_dir = str(tmp_path / "nowhere")
    results = evaluate_workdir(apart, workdir, outputs=Outputs(0)).results
    assert results["samples"] == 3 and results["teacher_agreement"] is None
    assert dump_workdir(apart, workdir, tmp_path / "teacher").written == 9

    config.train.steps = 2
    train(config, workdir)
    checkpoints = Checkpoints(workdir)
    state, _ = checkpoints.restore(abstract_state(make_learner(config, 2)), make_mesh())
    checkpoints.close()
    assert int(state.step) == 2
    # Two steps away from the imported weights, not from random ones.
    assert 0 < largest_move(config, state, arrays) < 0.1


def test_student_becomes_a_run_that_restores(tmp_path, monkeypatch, capsys):
    config = Config(model=small_config())
    config.grid.shape, config.grid.lower_m = (16, 16, 4), (-8.0, -8.0, -2.0)
    monkeypatch.setattr(convert_weights, "load_config_file", lambda name: config)
    abstract = abstract_state(make_learner(config, 1))
    arrays = student_file(tmp_path / "latest.pth", config)
    assert run("--kind=student", f"--input={tmp_path}/latest.pth", f"--workdir={tmp_path}/run") == 0
    assert run_config.load_config(tmp_path / "run").to_dict() == config.to_dict()
    checksum = hashlib.sha256((tmp_path / "latest.pth").read_bytes()).hexdigest()
    source = {"kind": "student", "file": "latest.pth", "sha256": checksum}
    assert run_config.stored_initialisation(tmp_path / "run") == source
    checkpoints = Checkpoints(tmp_path / "run")
    state, _ = checkpoints.restore(abstract, make_mesh())
    checkpoints.close()
    for entry in student_entries(config.model):
        for params, stats in ((state.params["student"], state.batch_stats), state.ema.values()):
            leaves = {**flatten_dict(params), **flatten_dict(stats)}
            np.testing.assert_array_equal(
                entry.to_torch(np.asarray(leaves[entry.ours])), arrays[entry.theirs], err_msg=entry.theirs
            )
    # A folder with a run in it is left alone.
    assert run("--kind=student", f"--input={tmp_path}/latest.pth", f"--workdir={tmp_path}/run") == 2
    assert "not empty" in capsys.readouterr().err

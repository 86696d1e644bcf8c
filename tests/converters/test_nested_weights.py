"""Weights inside of larger files: entries of checkpoints, parts of models, and what wrappers put before names."""

import numpy as np
import pytest
from torch_files import tensor, write
from torch_resnet import resnet_file

from occjax.convert import torch_weights
from occjax.run import convert_weights


def run(*flags):
    return convert_weights.main([str(flag) for flag in flags])


def test_any_entry_may_hold_the_weights_and_counters_lie_beside_them(tmp_path):
    ones = np.ones(2, np.float32)
    one = {"_orig_mod.module.a": tensor("0", (2,), (1,)), "epoch": tensor("1", (), ())}
    content = {"params_ema": one, "optimizer": {"step": 3}, "epoch": 7}
    path = write(tmp_path / "a.pth", content, {"0": ones, "1": ones[:1]})
    for which in (None, "params_ema"):
        assert set(torch_weights.read_state_dict(path, which)) == {"a", "epoch"}
    with pytest.raises(torch_weights.WeightsMismatchError, match="no optimizer with named tensors, but params_ema"):
        torch_weights.read_state_dict(path, "optimizer")


@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "module._orig_mod.", "model.", "img_backbone.", "state.img_backbone."]
)
def test_a_part_is_found_by_the_prefix_of_its_names(tmp_path, small_backbone, capsys, prefix):
    def rename(arrays):
        for key in list(arrays):
            arrays[prefix + key] = arrays.pop(key)
        arrays["img_neck.conv.weight"] = np.ones((3, 3), np.float32)
        arrays["epoch"] = np.array(3, np.float32)

    resnet_file(tmp_path / "r.pth", small_backbone, rename)
    flags = ("--kind=resnet", "--depth=18", f"--input={tmp_path}/r.pth", f"--output={tmp_path}/r.npz")
    if prefix in ("_orig_mod.", "module._orig_mod."):
        # Of the whole, so that a foreign part is not passed over.
        assert run(*flags) == 2
        assert "1 entries do not fit the model" in capsys.readouterr().err
        return
    assert run(*flags) == 0
    said = capsys.readouterr().out
    assert f"took the 103 entries below {prefix} and left out 2 others" in said
    assert f"use it: --config.model.backbone.weights={tmp_path}/r.npz --config.model.backbone.depth=18" in said
    assert run(*flags, f"--prefix={prefix}") == 0
    assert run(*flags, "--prefix=img_head.") == 2
    assert f"no entry begins with 'img_head.'; names of the model are below: '{prefix}'" in capsys.readouterr().err


def test_ten_mismatches_of_a_kind_and_a_count(tmp_path, small_backbone, capsys):
    resnet_file(tmp_path / "r.pth", small_backbone)
    assert run("--kind=resnet", "--depth=34", f"--input={tmp_path}/r.pth", f"--output={tmp_path}/r.npz") == 2
    said = capsys.readouterr().err
    assert said.count("missing: ") == 11 and "missing: ... 70 more" in said
    assert "80 entries do not fit the model (100 of its 180 names are there)" in said and "--config" in said


def test_names_below_several_prefixes_are_asked_about(tmp_path, small_backbone, capsys):
    def twice(arrays):
        for key in list(arrays):
            arrays["a." + key] = arrays["b." + key] = arrays.pop(key)

    resnet_file(tmp_path / "r.pth", small_backbone, twice)
    flags = ("--kind=resnet", "--depth=18", f"--input={tmp_path}/r.pth", f"--output={tmp_path}/r.npz")
    assert run(*flags) == 2
    assert "below each of a., b.: choose one with --prefix" in capsys.readouterr().err
    assert run(*flags, "--prefix=b.") == 0

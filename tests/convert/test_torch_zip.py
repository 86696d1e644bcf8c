"""Weight files are read as torch wrote them, and hostile ones run nothing."""

import argparse
import json
from collections import OrderedDict

import numpy as np
import pytest
from torch_files import Global, tensor, write, write_legacy

from occjax.convert.torch_zip import TensorRef, WeightsFileError, load_checkpoint, load_safetensors


def test_tensors_views_and_containers(tmp_path):
    values = np.arange(12, dtype=np.float32)
    content = {
        "plain": tensor("0", (3, 4), (4, 1)),
        "transposed": tensor("0", (4, 3), (1, 4)),
        "slice": tensor("0", (2, 2), (4, 1), offset=5),
        "scalar": tensor("1", (), (), storage="LongStorage"),
        "epoch": 3,
        "list": [1.5, None, "text"],
    }
    read = load_checkpoint(write(tmp_path / "a.pth", content, {"0": values, "1": np.array([7], np.int64)}))
    grid = values.reshape(3, 4)
    np.testing.assert_array_equal(read["plain"].array(), grid)
    np.testing.assert_array_equal(read["transposed"].array(), grid.T)
    np.testing.assert_array_equal(read["slice"].array(), grid[1:, 1:3])
    assert read["scalar"].array() == 7 and read["scalar"].shape == ()
    assert read["epoch"] == 3 and read["list"] == [1.5, None, "text"]


def test_the_format_before_torch_1_6(tmp_path):
    values, counts = np.arange(12, dtype=np.float32), np.array([7, 9], np.int64)
    content = {
        "state_dict": OrderedDict(
            transposed=tensor("a", (4, 3), (1, 4), view=(None,)),
            counts=tensor("b", (2,), (1,), storage="LongStorage", view=(None,)),
            slice=tensor("a", (2, 2), (4, 1), offset=5, view=(None,)),
        ),
        "epoch": 3,
    }
    path = write_legacy(tmp_path / "a.pth", content, {"a": values, "b": counts})
    read = load_checkpoint(path)
    np.testing.assert_array_equal(read["state_dict"]["transposed"].array(), values.reshape(3, 4).T)
    np.testing.assert_array_equal(read["state_dict"]["slice"].array(), values.reshape(3, 4)[1:, 1:3])
    assert read["state_dict"]["counts"].array().tolist() == [7, 9] and read["epoch"] == 3
    for bad, match in (
        (path.read_bytes()[:-1], "reaches past the end"),
        (path.read_bytes()[:40], "cannot be read"),
    ):
        (tmp_path / "bad.pth").write_bytes(bad)
        with pytest.raises(WeightsFileError, match=match):
            load_checkpoint(tmp_path / "bad.pth")
    with pytest.raises(WeightsFileError, match="big-endian"):
        load_checkpoint(write_legacy(tmp_path / "big.pth", {}, {}, order="big"))
    with pytest.raises(WeightsFileError, match="refused os.system"):
        load_checkpoint(write_legacy(tmp_path / "bad.pth", {"x": Global("os", "system", "true")}, {}))
    shared = {"x": tensor("a", (1,), (1,), view=(("b", 0, 1),))}
    with pytest.raises(WeightsFileError, match="unknown storage record"):
        load_checkpoint(write_legacy(tmp_path / "view.pth", shared, {"a": values}))


def test_bfloat16_is_the_upper_half_of_float32(tmp_path):
    # Sign, eight bits of exponent, seven of mantissa: 1.5, -2, and 1/3 to three digits.
    bits = np.array([0x3FC0, 0xC000, 0x3EAB], np.uint16)
    content = {"x": tensor("0", (3,), (1,), storage="BFloat16Storage")}
    found = load_checkpoint(write(tmp_path / "a.pth", content, {"0": bits}))["x"].array()
    assert found.dtype == np.float32 and found.tolist() == [1.5, -2.0, 0.333984375]


@pytest.mark.parametrize(
    ("module", "name", "args"),
    [
        ("os", "system", ("touch {}",)),
        ("posix", "system", ("touch {}",)),
        ("builtins", "eval", ("open('{}', 'w')",)),
        ("builtins", "getattr", ("x", "y")),
        ("subprocess", "Popen", (("touch", "{}"),)),
        ("torch", "load", ("{}",)),
        ("torch.storage", "_load_from_bytes", (b"",)),
        ("numpy.core.multiarray", "_reconstruct", ()),
        ("collections", "OrderedDict.__init__", ()),
    ],
)
def test_hostile_pickles_are_refused_by_name_and_run_nothing(tmp_path, module, name, args):
    victim = tmp_path / "victim"
    args = tuple(a.format(victim) if isinstance(a, str) else a for a in args)
    path = write(tmp_path / "bad.pth", {"model_state": Global(module, name, *args)})
    with pytest.raises(WeightsFileError, match=f"refused {module}.{name}"):
        load_checkpoint(path)
    assert not victim.exists()


def test_namespace_is_an_inert_dict(tmp_path):
    path = write(tmp_path / "a.pth", {"args": argparse.Namespace(lr=0.1)})
    args = load_checkpoint(path)["args"]
    assert args == {"lr": 0.1} and not isinstance(args, argparse.Namespace)


def test_a_tensor_beyond_its_storage_is_refused(tmp_path):
    for shape, strides, offset in (
        ((5, 4), (4, 1), 0),
        ((2,), (1,), 11),
        ((1 << 40,), (1,), 0),
        ((13,), (0,), 0),
        ((3,), (-1,), 4),
    ):
        content = {"x": tensor("0", shape, strides, offset=offset)}
        read = load_checkpoint(write(tmp_path / "a.pth", content, {"0": np.zeros(12, np.float32)}))
        with pytest.raises(WeightsFileError, match="outside its storage"):
            read["x"].array()
    with pytest.raises(WeightsFileError, match="data/9"):
        load_checkpoint(write(tmp_path / "a.pth", {"x": tensor("9", (1,), (1,))}))["x"].array()


def test_tensors_of_no_storage_and_of_no_numbers_are_refused(tmp_path):
    record = ("storage", "FloatStorage", "0", "cpu", 4)
    for args in (
        ("0", 0, (1,), (1,)),
        (("0", "|O8"), 0, (1,), (1,)),
        (record, 0, ("1",), (1,)),
        (record, 0, (True,), (1,)),
    ):
        content = {"x": Global("torch._utils", "_rebuild_tensor_v2", *args, False, OrderedDict())}
        with pytest.raises(WeightsFileError, match="no tensor has storage"):
            load_checkpoint(write(tmp_path / "a.pth", content, {"0": np.zeros(4, np.float32)}))


def test_wrong_files_are_named_with_a_remedy(tmp_path):
    with pytest.raises(WeightsFileError, match="no weight file"):
        load_checkpoint(tmp_path / "none.pth")
    first = tmp_path / "first.pth"
    first.write_bytes(b"storages" + bytes(600))
    with pytest.raises(WeightsFileError, match="first versions of torch.*torch.save"):
        load_checkpoint(first)
    text = tmp_path / "text.pth"
    text.write_text("<html>")
    with pytest.raises(WeightsFileError, match="neither"):
        load_checkpoint(text)
    whole = write(tmp_path / "whole.pth", {"x": 1})
    cut = tmp_path / "cut.pth"
    cut.write_bytes(whole.read_bytes()[:100])
    with pytest.raises(WeightsFileError, match="not a complete zip"):
        load_checkpoint(cut)
    with pytest.raises(WeightsFileError, match="big-endian"):
        load_checkpoint(write(tmp_path / "big.pth", {}, order=b"big"))


def test_safetensors(tmp_path):
    def save(name, header, data):
        raw = json.dumps(header).encode()
        (tmp_path / name).write_bytes(len(raw).to_bytes(8, "little") + raw + data)
        return tmp_path / name

    x, bits = np.arange(6, dtype=np.float32).reshape(2, 3), np.uint16([0x3F80, 0xC000])
    header = {
        "__metadata__": {"format": "pt"},
        "x": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "half": {"dtype": "BF16", "shape": [2], "data_offsets": [24, 28]},
    }
    read = load_safetensors(save("a.safetensors", header, x.tobytes() + bits.tobytes()))
    np.testing.assert_array_equal(read["x"], x)
    np.testing.assert_array_equal(read["half"], np.float32([1, -2]))
    with pytest.raises(WeightsFileError, match="not a complete"):
        load_safetensors(save("b.safetensors", header, x.tobytes()))
    with pytest.raises(WeightsFileError, match="not a complete"):
        load_safetensors(save("c.safetensors", {"x": {"dtype": "F4"}}, b""))


def test_a_file_written_by_torch_reads_identically(tmp_path):
    torch = pytest.importorskip("torch")
    base = torch.arange(24.0).reshape(4, 6)
    content = {
        "model_state": OrderedDict(a=base, b=base.T, c=base[1:3, ::2], d=torch.nn.Parameter(torch.ones(2))),
        "half": torch.tensor([1.5, -2.0], dtype=torch.float16),
        "brain": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "flags": torch.tensor([True, False]),
        "count": torch.tensor(3),
        "epoch": 4,
    }
    torch.save(content, tmp_path / "new.pth")
    read = load_checkpoint(tmp_path / "new.pth")
    for key, value in content["model_state"].items():
        np.testing.assert_array_equal(read["model_state"][key].array(), value.detach().numpy())
    for key in ("half", "brain", "flags", "count"):
        assert isinstance(read[key], TensorRef)
        np.testing.assert_array_equal(read[key].array(), content[key].float().numpy())
    torch.save(content, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    old = load_checkpoint(tmp_path / "old.pth")
    for key, value in content["model_state"].items():
        np.testing.assert_array_equal(old["model_state"][key].array(), value.detach().numpy())

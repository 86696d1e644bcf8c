"""Positions, indices and tokens become the right samples; info pickles are read without running anything."""

import os
import pickle

import numpy as np
import pytest

from occjax.convert.dump.arrays import DumpError
from occjax.convert.dump.info_pickle import load_plain_pickle, tokens_in_order
from occjax.convert.dump.listing import list_dump, match_files
from occjax.convert.dump.options import DumpOptions

ORDERS = {"train": ["ta", "tb", "tc"], "val": ["va"]}


def touch(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")


def listed(source, splits=("train", "val"), **options):
    return list_dump(source, DumpOptions(splits=splits, **options))


def tokens(source, match="auto", orders=ORDERS, **options):
    matched, kind, unmatched = match_files(listed(source, **options), orders, match)
    return {item.token: item.file.voxels.name for item in matched}, kind, unmatched


def test_positions_count_per_split(tmp_path):
    touch(tmp_path / "occ3d_logits/train", [f"00000{i}_0_3d_logits_fp16.npz" for i in range(3)])
    touch(tmp_path / "occ3d_logits/val", ["000000_0_3d_logits_fp16.npz"])
    touch(tmp_path / "bev_prob/val", ["000000_0_bev_prob_fp16.npz"])
    found, kind, unmatched = tokens(tmp_path)
    assert kind == "position" and not unmatched
    assert found["tc"].startswith("000002_0") and found["va"].startswith("000000_0")
    assert listed(tmp_path)[-1].bev.name == "000000_0_bev_prob_fp16.npz"


def test_indices_and_tokens(tmp_path):
    touch(tmp_path / "a/occ3d_logits/train", ["000001_3d_prob_fp16.npz"])
    assert tokens(tmp_path / "a") == ({"tb": "000001_3d_prob_fp16.npz"}, "sample_index", [])
    touch(tmp_path / "b/occ3d_logits/train", ["tc_3d_logits_fp16.npy", "ta.npz", "zz.npz"])
    found, kind, unmatched = tokens(tmp_path / "b")
    assert kind == "token" and set(found) == {"ta", "tc"}
    assert [path.name for path, _ in unmatched] == ["zz.npz"] and "no token of split train" in unmatched[0][1]


def test_a_plain_folder_of_arrays_of_one_split(tmp_path):
    touch(tmp_path, ["000000_0.npz", "000002_0.npz"])
    found, _, _ = tokens(tmp_path, splits=("train",))
    assert set(found) == {"ta", "tc"}
    with pytest.raises(DumpError, match="--splits"):
        tokens(tmp_path)


def test_a_plain_folder_of_tokens_may_mix_the_splits(tmp_path):
    touch(tmp_path, ["va.npz", "tb.npy", "zz.npz"])
    matched, kind, unmatched = match_files(listed(tmp_path), ORDERS, "auto")
    assert kind == "token" and {(item.token, item.file.split) for item in matched} == {("tb", "train"), ("va", "val")}
    assert [reason for _, reason in unmatched] == ["id zz is no token of splits train, val"]


def test_hard_labels_serve_where_there_are_no_scores(tmp_path):
    touch(tmp_path / "bev_sem/val", ["000000_0_bev_sem.npy"])
    assert listed(tmp_path)[0].bev.name == "000000_0_bev_sem.npy"
    touch(tmp_path / "occ3d_sem/val", ["000000_0_occ3d_sem.npy"])
    assert listed(tmp_path)[0].voxels.name == "000000_0_occ3d_sem.npy" and listed(tmp_path)[0].bev is None
    touch(tmp_path / "bev_prob/val", ["000000_0_bev_prob_fp16.npz"])
    assert listed(tmp_path)[0].voxels is None


def test_the_folder_of_one_kind_may_be_the_dump(tmp_path):
    touch(tmp_path / "a/val", ["000000_0_bev_prob_fp16.npz"])
    assert listed(tmp_path / "a")[0].voxels is None
    touch(tmp_path / "b/val", ["va.npz"])
    assert listed(tmp_path / "b")[0].bev is None
    np.savez(tmp_path / "b/val/va.npz", np.zeros((200, 200), np.uint8))
    assert listed(tmp_path / "b")[0].voxels is None


def test_counts_are_checked(tmp_path):
    touch(tmp_path / "occ3d_logits/val", ["000000_0.npz", "000001_0.npz"])
    with pytest.raises(DumpError, match="split val has 1 samples but the dump has 2 files"):
        tokens(tmp_path)
    touch(tmp_path / "b/occ3d_logits/train", ["000000_0.npz", "000007_0.npz"])
    _, _, unmatched = tokens(tmp_path / "b")
    assert len(unmatched) == 1 and "000007_0 is no position" in unmatched[0][1]


def test_mixed_and_unknown_ids_are_refused(tmp_path):
    touch(tmp_path / "a/occ3d_logits/train", ["000000_0.npz", "tb.npz"])
    with pytest.raises(DumpError, match="several kinds"):
        tokens(tmp_path / "a")
    touch(tmp_path / "b/occ3d_logits/train", ["frame_a.npz"])
    with pytest.raises(DumpError, match="neither positions"):
        tokens(tmp_path / "b")


def test_nothing_there_and_partly_there(tmp_path):
    with pytest.raises(DumpError, match="does not exist"):
        listed(tmp_path / "x")
    with pytest.raises(DumpError, match="occ3d_logits/<split>"):
        listed(tmp_path)
    touch(tmp_path / "occ3d_logits/train", ["000000_0_3d_logits_fp16.npz"])
    touch(tmp_path / "bev_prob/train", ["000000_0_bev_prob_fp16.npz", "000001_0_bev_prob_fp16.npz"])
    with pytest.raises(DumpError, match="1 of 2 samples have a BEV map but no voxels"):
        listed(tmp_path)


def test_two_kinds_of_voxel_files_need_a_choice(tmp_path):
    touch(tmp_path / "occ3d_logits/train", ["000000_0_3d_logits_fp16.npz", "000000_0_3d_prob_fp16.npz"])
    with pytest.raises(DumpError, match="--dump-3d-type"):
        listed(tmp_path)
    assert listed(tmp_path, dump_3d_type="prob")[0].voxels.name.endswith("prob_fp16.npz")


def info_file(path, protocol=4):
    infos = {
        "s2": [{"token": "c", "timestamp": 1, "matrix": np.eye(3), "name": np.str_("x"), "n": np.float64(2.5)}],
        "s1": [{"token": "a", "timestamp": 2}, {"token": "b", "timestamp": 3}],
    }
    metadata = [("s2", 0), ("s1", 1), ("s1", 0)]
    path.write_bytes(pickle.dumps({"infos": infos, "metadata": metadata}, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_info_order_is_scene_token_then_frame(tmp_path, protocol):
    path = info_file(tmp_path / "infos.pkl", protocol)
    assert tokens_in_order(path) == ["a", "b", "c"]
    np.testing.assert_array_equal(load_plain_pickle(path)["infos"]["s2"][0]["matrix"], np.eye(3))


class _Runs:
    def __init__(self, function, *arguments):
        self._call = function, arguments

    def __reduce__(self):
        return self._call


@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("touch {marker}",), "system"),
        (eval, ("open({marker!r}, 'w')",), "builtins.eval"),
        (exec, ("open({marker!r}, 'w')",), "builtins.exec"),
        (getattr, ("", "join"), "builtins.getattr"),
        (os.makedirs, ("{marker}",), "os.makedirs"),
        (np.fromfile, ("{marker}",), "fromfile"),
    ],
)
def test_malicious_info_files_are_refused_by_name_and_run_nothing(tmp_path, function, arguments, name):
    marker = tmp_path / "marker"
    arguments = tuple(text.format(marker=str(marker)) for text in arguments)
    path = tmp_path / "infos.pkl"
    path.write_bytes(pickle.dumps({"infos": _Runs(function, *arguments), "metadata": []}))
    with pytest.raises(DumpError, match=name):
        tokens_in_order(path)
    assert not marker.exists()


def test_handwritten_opcodes_cannot_reach_through_allowed_modules(tmp_path):
    path = tmp_path / "infos.pkl"
    for module, attribute in (("numpy", "load"), ("numpy.core.multiarray", "fromfile"), ("numpy", "ndarray.tofile")):
        path.write_bytes(
            b"\x80\x04\x8c%c%s\x8c%c%s\x93." % (len(module), module.encode(), len(attribute), attribute.encode())
        )
        with pytest.raises(DumpError, match="only plain containers"):
            load_plain_pickle(path)


def _global(module, name):
    return b"c%s\n%s\n" % (module, name)


_OBJECT = _global(b"numpy", b"dtype") + b"X\x02\0\0\0O8\x89\x88\x87R"
_EIGHT_BYTES = b"C\x08AAAAAAAA"
_EMPTY = _global(b"numpy.core.multiarray", b"_reconstruct") + _global(b"numpy", b"ndarray") + b"K\0\x85C\x01b\x87R"


@pytest.mark.parametrize(
    ("opcodes", "reason"),
    [
        (_global(b"numpy", b"ndarray") + b"(K\x01\x85" + _OBJECT + _EIGHT_BYTES + b"tR.", "calls numpy.ndarray"),
        (_global(b"numpy.core.multiarray", b"scalar") + _OBJECT + _EIGHT_BYTES + b"\x86R.", "objects over raw bytes"),
        (
            _global(b"numpy.core.numeric", b"_frombuffer")
            + b"("
            + _EIGHT_BYTES
            + _OBJECT
            + b"K\x01\x85X\x01\0\0\0CtR.",
            "objects over raw bytes",
        ),
        # An object type that claims, by its flags, to hold no objects.
        (
            _EMPTY
            + b"(K\x01K\x01\x85"
            + _OBJECT
            + b"(K\x03X\x01\0\0\0|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89"
            + _EIGHT_BYTES
            + b"tb.",
            "objects over raw bytes",
        ),
        (_global(b"numpy", b"dtype") + b"X\x03\0\0\0V99\x85R.", "arrays of 'V99'"),
    ],
)
def test_arrays_are_never_laid_over_foreign_pointers(tmp_path, opcodes, reason):
    path = tmp_path / "infos.pkl"
    path.write_bytes(b"\x80\x03" + opcodes)
    with pytest.raises(DumpError, match=reason):
        load_plain_pickle(path)


def test_object_arrays_of_plain_things_are_read(tmp_path):
    path = tmp_path / "infos.pkl"
    array = np.array([{"a": 1}, None, "text"], dtype=object)
    path.write_bytes(pickle.dumps([array, np.arange(6, dtype=">i4").reshape(2, 3).T, np.array("é"), np.array([True])]))
    objects, numbers, text, flags = load_plain_pickle(path)
    assert objects.tolist() == array.tolist() and numbers.tolist() == [[0, 3], [1, 4], [2, 5]]
    assert text == "é" and flags.dtype == bool


def test_damaged_info_files_are_named(tmp_path):
    path = info_file(tmp_path / "infos.pkl")
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DumpError, match=r"infos\.pkl cannot be read"):
        tokens_in_order(path)
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(DumpError, match="must hold infos"):
        tokens_in_order(path)
    with pytest.raises(DumpError, match="cannot be read"):
        tokens_in_order(tmp_path / "absent.pkl")

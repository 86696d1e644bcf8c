"""What is read is what numpy reads, and damage of every kind is an error."""

import json
import signal
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from occjax.storage import locked, read_npz, write_json, writing

ARRAYS = {
    "codes": np.random.default_rng(0).integers(0, 40, (9, 500), np.uint8),
    "text": np.array("a token"),
    "mask": np.ones((3, 4), bool),
    "by_column": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_come_back_as_numpy_reads_them(tmp_path, save):
    save(tmp_path / "a.npz", **ARRAYS)
    found = read_npz(tmp_path / "a.npz")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    assert list(read_npz(tmp_path / "a.npz", ("mask",))) == ["mask"]
    with pytest.raises(KeyError, match="absent"):
        read_npz(tmp_path / "a.npz", ("absent",))


def test_damage_is_an_error(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, **ARRAYS)
    whole = path.read_bytes()
    for cut in (0, 20, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:cut])
        with pytest.raises((zipfile.BadZipFile, ValueError, EOFError)):
            read_npz(path)
    for place in range(60, 600, 45):  # anywhere in the codes, which come first
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        with pytest.raises((zipfile.BadZipFile, ValueError, EOFError)):
            read_npz(path)


def test_python_objects_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", thing=np.array([{}], object))
    with pytest.raises(ValueError, match="[Oo]bject arrays"):
        read_npz(tmp_path / "a.npz")


def test_what_is_no_array_or_no_archive_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", b"x" * 1000)
    np.save(tmp_path / "b.npz.npy", np.arange(3))
    for name in ("a.npz", "b.npz.npy"):
        with pytest.raises((ValueError, zipfile.BadZipFile)):
            read_npz(tmp_path / name)
    whole = bytearray((tmp_path / "a.npz").read_bytes())
    for start in (8, whole.index(b"PK\x01\x02") + 10):  # the compression method, in both headers
        whole[start] = 99
    with pytest.raises(zipfile.BadZipFile, match="compression"):
        read_npz(bytes(whole))


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new folder" / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError, match="killed"), writing(path) as scratch:
        scratch.write_text("half")
        assert scratch.name.startswith(".") and scratch.suffix == ".tmp"
        raise RuntimeError("killed")
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(path.parent.iterdir()) == [path]


def test_writers_that_count_their_processes_alike_do_not_meet(tmp_path):
    # Threads share the number of their process, as the first processes of two containers do.
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: write_json(tmp_path / "config.json", {"writer": i}), range(400)))
    assert json.loads((tmp_path / "config.json").read_text())["writer"] in range(400)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_lock_is_held_by_one_and_let_go_of_by_the_system(tmp_path):
    path = tmp_path / "folder" / ".lock"
    with locked(path) as first, locked(path) as second:
        assert first and not second
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom occjax.storage import locked\n"
        "with locked(Path(sys.argv[1])) as is_held:\n    print(is_held, flush=True)\n    signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "True\n"
        with locked(path) as is_held:
            assert not is_held
        holder.send_signal(signal.SIGKILL)
    with locked(path, wait=True) as is_held:
        assert is_held
    # Where there can be no file, nobody is stopped.
    with locked(path / "below a file") as is_held:
        assert is_held

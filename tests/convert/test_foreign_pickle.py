"""Pickles of strangers: what is small in the file stays small and short in the reading."""

import pickle
import time
import tracemalloc
from collections import OrderedDict

import numpy as np
import pytest

from occjax.convert.dump.arrays import DumpError
from occjax.convert.dump.info_pickle import tokens_in_order
from occjax.convert.foreign_pickle import Entries, load_pickle
from occjax.convert.torch_zip import WeightsFileError, load_checkpoint

ALLOWED = {("collections", "OrderedDict"): Entries, ("numpy", "scalar"): lambda: np.int64(3)}


def doubled(times: int, end: bytes = b"t") -> bytes:
    """Opcodes of a tuple (or list, b"l") that holds the one before twice, that one the one before it, and so on."""
    return b"Nq\x00" + b"".join(b"0(h%ch%c%bq%c" % (i, i, end, i + 1) for i in range(times))


def pickled(content: bytes) -> bytes:
    return b"\x80\x02" + content + b"."


@pytest.mark.parametrize(
    "content",
    [
        b"}" + doubled(22) + b"Ns",
        b"}(" + b"NN" + doubled(22) + b"Nu",
        b"(" + doubled(22) + b"Nd",
        b"ccollections\nOrderedDict\n(]]" + doubled(22) + b"aNaatR",
        b"ccollections\nOrderedDict\n)R" + doubled(22) + b"Ns",
        b"}\x8b\x40\x00\x00\x00" + b"\x01" * 64 + b"Ns",
        b"})Ns",
    ],
)
def test_keys_that_take_long_to_hash(content):
    started = time.monotonic()
    with pytest.raises(pickle.UnpicklingError, match="a key is .* only text and numbers"):
        load_pickle(pickled(content), ALLOWED)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("content", [b"\x8f", b"\x8f(Nt\x90", b"(N\x91"])
def test_sets(content):
    with pytest.raises(pickle.UnpicklingError, match="it holds a set"):
        load_pickle(pickled(content), {})


def test_numbers_ask_for_no_room(tmp_path):
    """The place of a memo, and lengths of what does not follow: the reader in C makes gigabytes of each."""
    huge = b"\xff\xff\xff\x0f"
    lengths = (b"Nr" + huge, *(code + huge + bytes(4) for code in (b"\x8e", b"\x96", b"\x95")))
    legacy = tmp_path / "a.pth"
    for content in lengths:
        legacy.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + pickled(content))
        tracemalloc.start()
        with pytest.raises(WeightsFileError, match="cannot be read"):
            load_checkpoint(legacy)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 20, content


def test_keys_that_honest_files_have():
    keys = ["text", b"bytes", 3, -(1 << 40), 0.5, None, True]
    for protocol in range(5):
        content = {"plain": dict.fromkeys(keys, [1]), "ordered": OrderedDict((key, 2) for key in keys)}
        found = load_pickle(
            pickle.dumps(content, protocol), {**ALLOWED, ("_codecs", "encode"): lambda t, c: t.encode(c)}
        )
        assert found == content
    assert load_pickle(pickled(b"}cnumpy\nscalar\n)RNs"), ALLOWED) == {3: None}


@pytest.mark.parametrize("place", ["scene", "token"])
def test_lists_in_the_place_of_text(tmp_path, place):
    """Their text would be of a billion brackets."""
    names = {"scene": b"X\x01\x00\x00\x00s", "token": b"X\x01\x00\x00\x00t", place: doubled(18, b"l")}
    infos = b"X\x05\x00\x00\x00infos}X\x01\x00\x00\x00s](}X\x05\x00\x00\x00token" + names["token"] + b"sess"
    path = tmp_path / "infos.pkl"
    path.write_bytes(pickled(b"}" + infos + b"X\x08\x00\x00\x00metadata](" + names["scene"] + b"K\x00\x86es"))
    with pytest.raises(DumpError, match="is no text"):
        tokens_in_order(path)

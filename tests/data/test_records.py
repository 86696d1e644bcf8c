"""One record: every file comes back byte for byte, and what is no record says so."""

import pytest

from occjax.data.records import decode_record, encode_record
from occjax.errors import DataError

FILES = {"CAM_FRONT": b"\xff\xd8 an image", "lidar": bytes(range(256)), "labels": b"", "teacher": b"PK"}


def test_a_record_comes_back_as_it_was():
    token, files = decode_record(encode_record("a" * 32, FILES))
    assert token == "a" * 32 and files == FILES and list(files) == list(FILES)


def test_what_is_no_record_says_so():
    whole = encode_record("a" * 32, FILES)
    for damaged in (b"", whole[:5], whole[:40], b"\xff" * 64, whole.replace(b'"token"', b'"tokon"')):
        with pytest.raises(DataError, match="cannot be decoded"):
            decode_record(damaged)
    for damaged in (whole[:-1], whole + b"more"):
        with pytest.raises(DataError, match=f"has {len(damaged)} bytes, its header says {len(whole)}"):
            decode_record(damaged)

"""What a folder of teacher files says of those that an earlier run left in it."""

import pytest
from teacher_folder import GRID, write_folder

from occjax.convert.dump.arrays import DumpError
from occjax.convert.dump.output import TeacherOutput
from occjax.grid import OCC3D_GRID, SURROUNDOCC_GRID
from occjax.targets.files import TeacherFileError
from occjax.targets.folder import TeacherFolder


def test_a_damaged_file_of_an_earlier_run_is_named(tmp_path):
    path = tmp_path / "token.npz"
    path.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(TeacherFileError, match=r"token\.npz, kept from an earlier run, cannot be read"):
        TeacherOutput(tmp_path, "dump", OCC3D_GRID).keep([path], {})


def test_an_empty_manifest_is_written_anew_from_the_files(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "manifest.json").write_text("")  # as a machine that went down leaves it
    with pytest.raises(TeacherFileError, match="is empty, as a crash .* --skip-existing writes it anew"):
        TeacherFolder(tmp_path, GRID)
    output = TeacherOutput(tmp_path, "test", GRID)
    # Who compares what the files were made from cannot know; who compares what they hold, can.
    with pytest.raises(DumpError, match=f"is empty.*rm -r {tmp_path}"):
        output.require_own()
    previous = output.previous("grid", "form", "contents")
    output.keep_but(set(), previous)
    output.write_manifest()
    assert previous == {} and TeacherFolder(tmp_path, GRID).manifest["samples"] == 2
    (tmp_path / "manifest.json").write_text("")
    with pytest.raises(DumpError, match="holds teacher files on"):
        TeacherOutput(tmp_path, "test", SURROUNDOCC_GRID).previous("grid", "form", "contents")

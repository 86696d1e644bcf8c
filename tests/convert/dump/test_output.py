"""What a folder of teacher files says of those that an earlier run left in it."""

import pytest

from occjax.convert.dump.output import TeacherOutput
from occjax.grid import OCC3D_GRID
from occjax.targets.files import TeacherFileError


def test_a_damaged_file_of_an_earlier_run_is_named(tmp_path):
    path = tmp_path / "token.npz"
    path.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(TeacherFileError, match=r"token\.npz, kept from an earlier run, cannot be read"):
        TeacherOutput(tmp_path, "dump", OCC3D_GRID).keep([path], {})

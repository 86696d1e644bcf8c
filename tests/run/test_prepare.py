"""The generated world's teacher goes where it is wanted, and into no other folder."""

import json
import shutil

import pytest
from tiny_world import tiny_config

from occjax.config import Config
from occjax.errors import DataError
from occjax.run.prepare import prepare
from occjax.targets.files import TeacherFileError
from occjax.targets.folder import TeacherFolder


def config_for(world, folder) -> Config:
    config = tiny_config(world)
    config.data.teacher_dir = str(folder)
    return config


@pytest.fixture
def students_teacher(world, tmp_path):
    """As --mode=dump begins it; differs from the simulated teacher's folder in the source alone."""
    folder = tmp_path / "kd_teacher"
    folder.mkdir()
    manifest = json.loads((world / "teacher/manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "source": "tiny, step 6, ema weights"}))
    return folder


def listing(folder):
    return {path.name: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.iterdir()}


def test_another_teacher_is_left_alone(world, students_teacher):
    before = listing(students_teacher)
    config = config_for(world, students_teacher)
    prepare(config)
    assert listing(students_teacher) == before
    TeacherFolder(students_teacher, config.grid.build())


def test_files_of_the_simulated_teacher_that_are_gone_are_made_again(world, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(world / "teacher", folder)
    gone = sorted(folder.glob("*.npz"))[0]
    gone.unlink()
    prepare(config_for(world, folder))
    assert gone.read_bytes() == (world / "teacher" / gone.name).read_bytes()


def test_a_mistyped_folder_is_not_made(world, tmp_path):
    folder = tmp_path / "kd_teachr"
    config = config_for(world, folder)
    with pytest.raises(DataError, match=f"teachr has no manifest.*--config.data.teacher_dir={world}/teacher"):
        prepare(config)
    config.data.records_dir = str(tmp_path / "records")
    prepare(config)  # records hold the teacher: the folder's name only says that it is wanted
    assert not folder.exists()


def test_a_damaged_manifest_is_named(world, students_teacher):
    (students_teacher / "manifest.json").write_text("{")
    with pytest.raises(TeacherFileError, match="cannot be read"):
        prepare(config_for(world, students_teacher))

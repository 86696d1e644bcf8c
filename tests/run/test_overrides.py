"""Overrides name what is wrong and what would be right."""

import re

import pytest

from occjax.config import Config
from occjax.errors import UserError
from occjax.run.overrides import apply_overrides, load_config_file


def test_unknown_field_names_the_accepted_ones():
    with pytest.raises(UserError, match=r"train has no field 'lr'(.|\n)*learning_rate"):
        apply_overrides(Config(), ["--config.train.lr=1"])


def test_a_near_miss_is_suggested():
    with pytest.raises(UserError, match="did you mean batch_size"):
        apply_overrides(Config(), ["--config.data.batchsize=1"])


def test_a_section_is_no_value():
    with pytest.raises(UserError, match="is a section"):
        apply_overrides(Config(), ["--config.model=small"])


def test_a_value_has_no_fields():
    with pytest.raises(UserError, match="plain value"):
        apply_overrides(Config(), ["--config.train.steps.more=1"])


def test_values_are_read_by_their_type():
    before = Config()
    config = apply_overrides(
        before,
        [
            *("--config.model.backbone.depth=18", "--config.data.on_error=skip", "--config.train.learning_rate", "1"),
            *("--config.grid.shape=(8,8,2)", "--config.augment.bev_flip_x", "--noconfig.augment.photometric"),
        ],
    )
    assert (config.model.backbone.depth, config.data.on_error, config.train.learning_rate) == (18, "skip", 1.0)
    assert (config.grid.shape, config.augment.bev_flip_x, config.augment.photometric) == ((8, 8, 2), True, False)
    assert before == Config()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config.train.steps=many", "--config.train.steps=many"),
        ("--config.grid.shape=(8,", "config.grid.shape"),
        ("--config.augment.bev_flip_x=perhaps", "config.augment.bev_flip_x=perhaps"),
    ],
)
def test_values_of_another_type_are_refused(argument, message):
    with pytest.raises(UserError, match=re.escape(message)):
        apply_overrides(Config(), [argument])


def test_a_value_without_its_field_is_refused():
    with pytest.raises(UserError, match="unexpected arguments more"):
        apply_overrides(Config(), ["--config.train.steps=1", "more"])


def test_missing_file_lists_what_exists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mine.py").write_text("")
    with pytest.raises(UserError, match=r"no such file(.|\n)*configs/mine\.py"):
        load_config_file("configs/other.py")
    with pytest.raises(UserError, match=r"defines get_config"):
        load_config_file("configs/mine.py")


@pytest.mark.parametrize("name", ["kd", "kd.py", "configs/kd.py"])
def test_the_packages_own_files_are_found_from_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config_file(name).name == "kd"
    (tmp_path / "configs").mkdir()
    own = tmp_path / "configs" / "kd.py"
    own.write_text("from occjax.configs import base\ndef get_config():\n    return base.get_config()\n")
    assert load_config_file("configs/kd.py").name == "base"
    with pytest.raises(UserError, match="no such file"):
        load_config_file("elsewhere/kd.py")


def test_variant_reaches_get_config(tmp_path):
    path = tmp_path / "c.py"
    path.write_text(
        "from occjax.config import Config\n"
        "def get_config(name='plain'):\n    c = Config()\n    c.name = name\n    return c\n"
    )
    assert load_config_file(str(path)).name == "plain"
    assert load_config_file(f"{path}:special").name == "special"


@pytest.mark.parametrize(
    ("path", "message"),
    [("configs/quickstart.py:foo", "distilled or supervised, not 'foo'"), ("configs/kd.py:foo", "takes 0 positional")],
)
def test_an_unknown_variant_is_refused(path, message):
    with pytest.raises(UserError, match=message):
        load_config_file(path)


def test_a_file_that_does_not_run_is_named(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("import configs.nowhere")
    with pytest.raises(UserError, match=r"mine\.py cannot be run: ModuleNotFoundError"):
        load_config_file(str(path))


FILE = "from occjax.config import Config\ndef get_config():\n    config = Config()\n    {}\n    return config\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("config.data.batchsize = 4", "config.data has no field 'batchsize'; did you mean batch_size?"),
        ("config.train.lr = 1.0", r"config.train has no field 'lr'\n  fields of config.train: seed, steps"),
        ("config.data.workers = 'two'", "config.data.workers must be a whole number, not 'two'"),
        ("config.data.workers = 2.0", "config.data.workers must be a whole number, not 2.0"),
        ("config.data.workers = True", "config.data.workers must be a whole number, not True"),
        ("config.train.clip_norm = '5'", "config.train.clip_norm must be a number, not '5'"),
        ("config.augment.photometric = 1", "config.augment.photometric must be True or False, not 1"),
        ("config.data.root = None", "config.data.root must be a text, not None"),
        ("config.data.cameras = 'CAM_FRONT'", r"config.data.cameras must be a tuple of texts, not 'CAM_FRONT'"),
        ("config.grid.shape = (8, 8)", r"config.grid.shape must be a tuple of 3 whole numbers, not \(8, 8\)"),
        ("config.model.backbone.depth = '50'", "config.model.backbone.depth must be one of 10, 18, 34, 50, not '50'"),
        ("config.model = 'small'", "config.model is a section, not a value such as 'small'; .*backbone, fpn_channels"),
        ("config.dta.root = 'x'", r"no attribute 'dta' \(line 4: config.dta.root = 'x'\)"),
    ],
)
def test_mistakes_in_a_file_are_named_as_in_overrides(line, message, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE.format(line))
    with pytest.raises(UserError, match=rf"--config={path}: (.|\n)*{message}"):
        load_config_file(str(path))


def test_all_mistakes_of_a_file_are_told_at_once_and_what_is_right_is_taken(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE.format("config.data.batchsize = 4; config.train.lr = 1.0"))
    with pytest.raises(UserError, match=r"batchsize(.|\n)*'lr'"):
        load_config_file(str(path))
    path.write_text(FILE.format("config.train.clip_norm = 5; config.data.cameras = ['CAM_FRONT']"))
    assert load_config_file(str(path)).data.cameras == ["CAM_FRONT"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [("grid.shape=(8,8,2.5)", "3 whole numbers"), ("model.bev_encoder.stage_channels=('a','b')", "of whole numbers")],
)
def test_elements_of_a_tuple_are_looked_at(argument, message):
    with pytest.raises(UserError, match=message):
        apply_overrides(Config(), [f"--config.{argument}"])

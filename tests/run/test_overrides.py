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

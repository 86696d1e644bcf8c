"""Overrides name what is wrong and what would be right."""

import pytest

from occjax.config import Config
from occjax.errors import UserError
from occjax.run.overrides import apply_overrides, check_config_flag, check_overrides, load_config_file


def test_unknown_field_names_the_accepted_ones():
    with pytest.raises(UserError, match=r"train has no field 'lr'(.|\n)*learning_rate"):
        check_overrides(["--config.train.lr=1"], Config())


def test_a_near_miss_is_suggested():
    with pytest.raises(UserError, match="did you mean batch_size"):
        check_overrides(["--config.data.batchsize=1"], Config())


def test_a_section_is_no_value():
    with pytest.raises(UserError, match="is a section"):
        check_overrides(["--config.model=small"], Config())


def test_a_value_has_no_fields():
    with pytest.raises(UserError, match="plain value"):
        check_overrides(["--config.train.steps.more=1"], Config())


def test_right_overrides_and_other_flags_pass():
    check_overrides(["main.py", "--config.model.backbone.depth=18", "--workdir=x"], Config())


def test_missing_file_lists_what_exists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mine.py").write_text("")
    with pytest.raises(UserError, match=r"no such file(.|\n)*configs/mine\.py"):
        check_config_flag(["main.py", "--config=configs/other.py"])
    with pytest.raises(UserError, match=r"defines get_config"):
        load_config_file("configs/mine.py")


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


def test_overrides_apply_by_path():
    config = Config()
    apply_overrides(config, {"data.root": "elsewhere", "model.depth.bins": 3})
    assert (config.data.root, config.model.depth.bins) == ("elsewhere", 3)

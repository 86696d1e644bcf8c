"""`--mode=config` says what every field is, what it means and whether somebody changed it."""

import dataclasses
import runpy

from config_fields import plain_fields

from occjax.__main__ import main
from occjax.config import Config
from occjax.run.overrides import load_config_file
from occjax.run.show_config import described, field_meanings


def sections(section):
    yield section
    for field in dataclasses.fields(section):
        if dataclasses.is_dataclass(value := getattr(section, field.name)):
            yield from sections(value)


def test_every_field_has_a_meaning():
    for section in sections(Config()):
        plain = {f.name for f in dataclasses.fields(section) if not dataclasses.is_dataclass(getattr(section, f.name))}
        # The run's own section says it in a sentence.
        assert plain <= field_meanings(type(section)).keys() | {"name"}, type(section)


def test_the_listing_is_the_configuration_and_marks_what_differs(tmp_path):
    config = load_config_file("configs/kd.py")
    text = described(config)
    file = tmp_path / "mine.py"
    lines = "".join(f"    {line}\n" for line in text.splitlines())
    file.write_text(
        f"from occjax.config import Config\ndef get_config():\n    config = Config()\n{lines}    return config\n"
    )
    assert runpy.run_path(str(file))["get_config"]() == config
    assert "# batch_size: samples per step over all devices and hosts.\n" in text
    assert "\nconfig.data.batch_size = 4  # <- default: 1\n" in text and "\nconfig.data.workers = 4\n" in text
    marked = [line for line in text.splitlines() if "# <- default" in line]
    count = len(list(plain_fields()))
    assert f"# {len(marked)} of {count} fields differ" in text and len(marked) == 15
    assert f"# 0 of {count} fields differ" in described(Config())


def test_the_command_line_shows_what_a_run_would_take(tmp_path, capsys):
    assert main(["--mode=config", "--config=configs/kd.py", "--config.train.seed=7", f"--workdir={tmp_path}"]) == 0
    assert "config.train.seed = 7  # <- default: 0" in capsys.readouterr().out
    # What is wrong is said after it.
    assert main(["--mode=config", "--config.data.image_height=481"]) == 2
    said = capsys.readouterr()
    assert "config.data.image_height = 481" in said.out and "use 480" in said.err
    assert main(["--mode=config", f"--workdir={tmp_path}"]) == 2
    assert "holds no run" in capsys.readouterr().err

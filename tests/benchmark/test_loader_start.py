import re

from occjax.benchmark import loader_start


def test_the_ratio_is_printed(capsys):
    loader_start.main(["--keyframes=200", "--repeats=1"])
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"     20 keyframes: \d+\.\d\d s to start", lines[1])
    assert re.fullmatch(r"    200 keyframes: \d+\.\d\d s to start", lines[2])
    assert re.match(r"ratio: \d+\.\d times as long for 50 times", lines[3])

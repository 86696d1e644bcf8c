"""Drawing a file from the command line."""

import numpy as np
import pytest
from nuscenes_root import write_root
from PIL import Image

from occjax.drawing.__main__ import main
from occjax.drawing.top_view import ERROR_COLORS
from occjax.grid import VoxelGrid
from occjax.label_sets import LABEL_SETS, label_set
from occjax.metrics.prediction_files import write_prediction


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    root = write_root(tmp_path_factory.mktemp("drawing") / "nuscenes", scenes={"scene-0003": 1})
    return next(root.glob("gts/*/*/labels.npz")), next(root.glob("surroundocc/samples/*.npy"))


def draw(tmp_path, *arguments):
    output = tmp_path / "pictures" / "page.png"
    assert main([*map(str, arguments), "--output", str(output)]) == 0
    return np.asarray(Image.open(output))


def test_label_files_of_both_sets_are_drawn(labels, tmp_path):
    pages = [draw(tmp_path, path) for path in labels]
    assert all(page.std() > 20 for page in pages) and not np.array_equal(*pages)


def test_a_prediction_on_a_crop_beside_its_truth(labels, tmp_path):
    truth = label_set("surroundocc").read(labels[1])[0]
    crop = VoxelGrid("lidar", (-20.0, -20.0, -5.0), 0.5, (80, 80, 16))
    path = write_prediction(tmp_path, "token", truth[60:140, 60:140], crop)
    page = draw(tmp_path, path, "--truth", labels[1])
    seen = {kind: np.all(page == color, axis=-1).sum() for kind, color in ERROR_COLORS.items() if kind != "not counted"}
    # What stands in the legend.
    assert seen["missed"] == seen["wrong class"] == seen["invented"] < 500 < seen["right"]


def test_every_mistake_is_named(labels, tmp_path, capsys):
    def error_of(*arguments):
        assert main([*map(str, arguments), "--output", str(tmp_path / "page.png")]) == 2
        assert not (tmp_path / "page.png").exists()
        return capsys.readouterr().err

    nameless = tmp_path / "token.npy"
    np.save(nameless, np.full((200, 200, 16), 4, np.uint8))
    assert all(f"--grid={name}" in error_of(nameless) for name in LABEL_SETS)
    assert "no aligned crop" in error_of(nameless, "--grid", "occ3d", "--truth", labels[1])
    np.save(nameless, np.full((200, 200, 16), 18, np.uint8))
    assert "classes 0 to 17, found 18" in error_of(nameless, "--grid", "occ3d")
    np.save(nameless, np.full((200, 200, 12), 4, np.uint8))
    assert "expected shape (200, 200, 16)" in error_of(nameless, "--grid", "occ3d")
    for absent in ("absent.npz", "absent.npy", "gts/labels.npz"):
        assert f"there is no file {tmp_path / absent}" in error_of(tmp_path / absent)


def test_an_output_that_cannot_be_written_is_named(labels, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    for output, reason in (("page.txt", "as .png, not 'page.txt'"), ("file/page.png", f"folder {tmp_path / 'file'} (")):
        assert main([str(labels[0]), "--output", str(tmp_path / output)]) == 2
        assert reason in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

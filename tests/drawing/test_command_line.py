"""Drawing a file from the command line."""

import numpy as np
import pytest
from nuscenes_root import write_root
from PIL import Image

from occjax.classes import CLASS_COLORS, FREE
from occjax.drawing.__main__ import main
from occjax.drawing.style import UNKNOWN_COLOR
from occjax.drawing.top_view import ERROR_COLORS
from occjax.grid import VoxelGrid
from occjax.label_sets import LABEL_SETS, label_set
from occjax.metrics.prediction_files import write_prediction
from occjax.targets.files import SparseTeacher, compact_teacher, write_teacher


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


def test_teacher_files_are_drawn_with_what_they_do_not_know(labels, tmp_path):
    semantics, grid = np.full((80, 80, 16), FREE, np.uint8), VoxelGrid("lidar", (-20.0, -20.0, -5.0), 0.5, (80, 80, 16))
    semantics[40:60, 50:60, 4] = 4
    occupied = np.flatnonzero(semantics != FREE).astype(np.int32)
    rows = np.full((len(occupied), 18), 0.1 / 17, np.float32)
    rows[:, 4] = 0.9
    sparse = SparseTeacher(occupied, rows, np.array([1e-5] * 17 + [1 - 17e-5], np.float32))
    known = np.ones(grid.shape, bool)
    known[:20] = False
    write_teacher(tmp_path / "token.npz", compact_teacher("token", grid, sparse, valid=known))
    page = draw(tmp_path, tmp_path / "token.npz", "--truth", labels[1])
    alone = draw(tmp_path, tmp_path / "token.npz")
    # 600 pixels for 80 voxels: the block, and a quarter that is unknown.
    assert amount_of(alone, CLASS_COLORS[4]) > 0.7 * 200 * (600 / 80) ** 2
    assert amount_of(alone, UNKNOWN_COLOR) > 0.9 * 600 * 600 / 4
    assert page.shape[0] > alone.shape[0]
    write_teacher(tmp_path / "bev.npz", compact_teacher("token", grid, None, np.full((80, 80, 18), 1 / 18, np.float32)))
    assert main([str(tmp_path / "bev.npz"), "--output", str(tmp_path / "x.png")]) == 2


def amount_of(page, color):
    return (np.abs(page.astype(int) - np.array(color)).max(-1) < 60).sum()


def test_a_crop_without_a_grid_of_its_own_is_named_by_its_corner(labels, tmp_path, capsys):
    truth = label_set("surroundocc").read(labels[1])[0]
    np.save(tmp_path / "crop.npy", truth[60:140, 60:140])
    write_prediction(
        tmp_path, "token", truth[60:140, 60:140], VoxelGrid("lidar", (-20.0, -20.0, -5.0), 0.5, (80, 80, 16))
    )
    pages = [
        draw(tmp_path, path, *options, "--truth", labels[1])[80:]
        for path, options in (
            (tmp_path / "crop.npy", ("--grid=surroundocc", "--lower-m=-20,-20,-5")),
            (tmp_path / "token.npz", ()),
        )
    ]
    np.testing.assert_array_equal(*pages)
    for options, message in (
        (("--grid=surroundocc",), "the crop's lower corner with --lower-m=X,Y,Z"),
        (("--grid=surroundocc", "--lower-m=-20.2,-20,-5"), "no aligned crop"),
    ):
        assert main([str(tmp_path / "crop.npy"), *options, "--output", str(tmp_path / "page.png")]) == 2
        assert message in capsys.readouterr().err
    for option in ("--lower-m=-20,-20", "--lower-m=-20,-20,-5"):
        with pytest.raises(SystemExit):
            main([str(tmp_path / "crop.npy"), option, "--output", str(tmp_path / "page.png")])
        assert "--lower-m" in capsys.readouterr().err


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

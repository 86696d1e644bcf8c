"""Values of the tables: each damage ends in one DataError that names file, token, field, value and rule."""

import copy
import json

import pytest
from nuscenes_root import FORWARD_WXYZ, token, write_root

from occjax.config import DataConfig
from occjax.data.index import load_index
from occjax.errors import DataError

NAN, INF = float("nan"), float("inf")
RIG = token("calibration", "CAM_FRONT")
IMAGE = token("data", "scene-0061__CAM_FRONT__0")
POSE = token("pose", "scene-0061__CAM_FRONT__0")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_root(tmp_path_factory.mktemp("checks") / "root", scenes={"scene-0061": 2})


@pytest.fixture(scope="module")
def clean(root):
    return {path.stem: json.loads(path.read_text()) for path in (root / "v1.0-trainval").glob("*.json")}


@pytest.fixture
def attempt(root, clean, tmp_path):
    """Loads the index of tables that a function has changed."""

    def load(change):
        tables = copy.deepcopy(clean)
        rows = {name: {row["token"]: row for row in found} for name, found in tables.items()}
        change(tables, rows)
        for name, found in tables.items():
            (root / f"v1.0-trainval/{name}.json").write_text(json.dumps(found))
        return load_index(DataConfig(root=str(root), index_dir=str(tmp_path)))

    return load


def set_field(table, row, **values):
    return lambda tables, rows: rows[table][row].update(values)


def drop_field(table, row, name):
    return lambda tables, rows: rows[table][row].pop(name)


def drop_row(table, row):
    return lambda tables, rows: tables[table].remove(rows[table][row])


K = [[60.0, 0.0, 48.0], [0.0, 60.0, 32.0], [0.0, 0.0, 1.0]]
SENSOR, SAMPLE, SCENE = token("CAM_FRONT"), token("scene-0061", 0), token("scene-0061")
OF_RIG = f"calibrated_sensor.json, token {RIG}: "
NO_K = OF_RIG + "camera_intrinsic must be 3x3 with positive focal lengths, finite, and last row 0, 0, 1, found "
NO_ROTATION = "rotation must be a quaternion of length 1, four finite numbers w, x, y, z, found "
NO_WIDTH = f"sample_data.json, token {IMAGE}: width must be a whole number of pixels from 1 to 65535, found "
DAMAGES = {
    "intrinsics []": (set_field("calibrated_sensor", RIG, camera_intrinsic=[]), NO_K + "[]"),
    "intrinsics 3x4": (set_field("calibrated_sensor", RIG, camera_intrinsic=[[*row, 0] for row in K]), NO_K),
    "intrinsics fx, fy, cx": (set_field("calibrated_sensor", RIG, camera_intrinsic=[250, 250, 160]), NO_K + "[250"),
    "intrinsics all 0": (set_field("calibrated_sensor", RIG, camera_intrinsic=[[0, 0, 0]] * 3), NO_K),
    "intrinsics NaN": (set_field("calibrated_sensor", RIG, camera_intrinsic=[[NAN] * 3] * 3), NO_K + "[[NaN"),
    "intrinsics infinite": (
        set_field("calibrated_sensor", RIG, camera_intrinsic=[[INF, 0, 48], *K[1:]]),
        NO_K + "[[Inf",
    ),
    "focal length negative": (set_field("calibrated_sensor", RIG, camera_intrinsic=[[-60, 0, 48], *K[1:]]), NO_K),
    "intrinsics as text": (set_field("calibrated_sensor", RIG, camera_intrinsic="K"), NO_K + '"K"'),
    "no intrinsics": (drop_field("calibrated_sensor", RIG, "camera_intrinsic"), OF_RIG + "it has no camera_intrinsic"),
    "rotation 0": (set_field("calibrated_sensor", RIG, rotation=[0, 0, 0, 0]), OF_RIG + NO_ROTATION + "[0, 0, 0, 0]"),
    "rotation of 3 angles": (set_field("calibrated_sensor", RIG, rotation=[0.1, 0.2, 0.3]), OF_RIG + NO_ROTATION),
    "rotation NaN": (set_field("calibrated_sensor", RIG, rotation=[NAN] * 4), OF_RIG + NO_ROTATION + "[NaN"),
    "rotation as a matrix": (set_field("ego_pose", POSE, rotation=[[1, 0, 0], [0, 1, 0], [0, 0, 1]]), NO_ROTATION),
    "translation NaN": (set_field("ego_pose", POSE, translation=[0, NAN, 0]), f"ego_pose.json, token {POSE}: transl"),
    "translation in mm": (set_field("calibrated_sensor", RIG, translation=[0, 0, 1500]), "at most 100, found [0, 0,"),
    "translation huge": (set_field("ego_pose", POSE, translation=[10**400, 0, 0]), "three finite numbers"),
    "translation missing": (drop_field("ego_pose", POSE, "translation"), "it has no translation"),
    "no width": (drop_field("sample_data", IMAGE, "width"), f"token {IMAGE}: it has no width, which must be a whole"),
    "width null": (set_field("sample_data", IMAGE, width=None), NO_WIDTH + "nothing"),
    "width 0": (set_field("sample_data", IMAGE, width=0), NO_WIDTH + "0"),
    "width 96.5": (set_field("sample_data", IMAGE, width=96.5), NO_WIDTH + "96.5"),
    "width true": (set_field("sample_data", IMAGE, width=True), NO_WIDTH + "true"),
    "no filename": (drop_field("sample_data", IMAGE, "filename"), "it has no filename"),
    "filename absolute": (set_field("sample_data", IMAGE, filename="/etc/passwd"), 'a path below the root, found "/'),
    "filename outside": (set_field("sample_data", IMAGE, filename="a/../../b.jpg"), "a path below the root"),
    "ego_pose row gone": (
        drop_row("ego_pose", POSE),
        f"ego_pose.json has no row {POSE} that sample_data {IMAGE}",
    ),
    "scene row gone": (drop_row("scene", SCENE), f"scene.json has no row {SCENE} that sample {SAMPLE} names"),
    "sample row gone": (drop_row("sample", SAMPLE), f"sample.json has no row {SAMPLE} that sample_data"),
    "sensor row gone": (drop_row("sensor", SENSOR), f"sensor.json has no row {SENSOR} that calibrated_sensor {RIG}"),
    "rig gone": (drop_row("calibrated_sensor", RIG), f"calibrated_sensor.json has no row {RIG} that sample_data"),
    "a table is a dict": (
        lambda t, r: t.update(sample=r["sample"]),
        "must hold a list of rows, not a dict",
    ),
    "a row is a list": (lambda t, r: t["sample"].append([]), "row 2 must be an object with a token"),
    "no token": (lambda t, r: t["scene"].append({"name": "x"}), "row 1 must be an object with a token"),
    "token twice": (lambda t, r: t["scene"].append(t["scene"][0]), "scene.json has two rows with the token"),
    "token with a path": (set_field("sample", SAMPLE, token="../x"), 'found {"token": "../x"'),
    "time as text": (set_field("sample", SAMPLE, timestamp="1"), "timestamp must be a whole number of microseconds"),
    "time in years": (set_field("sample", SAMPLE, timestamp=1e300), "timestamp must be"),
    "name null": (set_field("scene", SCENE, name=None), "name must be text without slashes, not empty, found nothing"),
    "channel number": (set_field("sensor", SENSOR, channel=3), f"sensor.json, token {SENSOR}: channel must be text"),
    "key frame as text": (set_field("sample_data", IMAGE, is_key_frame="yes"), "must be true or false, found"),
    "two images": (
        lambda t, r: t["sample_data"].append({**r["sample_data"][IMAGE], "token": "other"}),
        "are both CAM_FRONT of one keyframe",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damage_is_one_error_that_names_where_and_what(attempt, damage):
    change, message = DAMAGES[damage]
    with pytest.raises(DataError) as caught:
        attempt(change)
    assert message in str(caught.value)
    assert "mend them where they were written" in str(caught.value) or "extract the metadata" in str(caught.value)


def test_the_same_mistake_everywhere_is_ten_lines_and_a_count(attempt):
    def change(tables, rows):
        for pose in tables["ego_pose"]:
            pose["rotation"] = [1, 0, 0]
        for record in tables["sample_data"]:
            record.pop("filename")

    with pytest.raises(DataError) as caught:
        attempt(change)
    assert len(str(caught.value).splitlines()) == 12 and str(caught.value).endswith("... and 2 more")


def test_what_nothing_reads_is_not_demanded(attempt, root):
    def change(tables, rows):
        # A radar without calibration, sweeps between keyframes without poses, rounded rotations, other tables empty.
        tables["sensor"].append({"token": "r", "channel": "RADAR_FRONT", "modality": "radar"})
        tables["calibrated_sensor"].append({"token": "rc", "sensor_token": "r"})
        record = rows["sample_data"][IMAGE]
        tables["sample_data"].append({**record, "token": "a", "calibrated_sensor_token": "rc", "ego_pose_token": "-"})
        tables["sample_data"].append({**record, "token": "b", "is_key_frame": False, "ego_pose_token": "-"})
        tables["ego_pose"].append({"token": "unused"})
        rows["calibrated_sensor"][RIG]["rotation"] = [round(v, 1) for v in FORWARD_WXYZ]
        for name in ("map", "log", "sample_annotation", "category"):
            tables[name] = []

    (root / "maps/blank.png").unlink(missing_ok=True)
    assert len(attempt(change).everything) == 2
    for name in ("map", "log", "instance", "sample_annotation", "category", "attribute", "visibility"):
        (root / f"v1.0-trainval/{name}.json").unlink()
    assert len(load_index(DataConfig(root=str(root), index_dir=str(root / "new"))).everything) == 2


def test_tables_without_any_lidar_are_told_what_they_lack(attempt):
    with pytest.raises(DataError, match="tables have no LiDAR: give each keyframe such a record.*loss.depth=0"):
        attempt(set_field("sensor", token("LIDAR_TOP"), channel="RADAR_FRONT", modality="radar"))


def test_the_lidar_of_the_keyframes_can_be_chosen(attempt, root, tmp_path):
    def change(tables, rows):
        rows["sensor"][token("LIDAR_TOP")]["channel"] = "LIDAR_LEFT"

    with pytest.raises(DataError, match="no LIDAR_TOP record.*LiDARs of these tables: LIDAR_LEFT; .*lidar_channel"):
        attempt(change)
    data = DataConfig(root=str(root), index_dir=str(tmp_path), lidar_channel="LIDAR_LEFT")
    assert load_index(data).everything.lidar_file[0].startswith(b"samples/LIDAR_TOP/")

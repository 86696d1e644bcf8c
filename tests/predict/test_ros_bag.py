"""A ROS bag, written by one library and read by another: one obstacle, where it stands, when it stood there."""

import sys

import numpy as np
import pytest

from occjax.classes import FREE
from occjax.errors import UserError
from occjax.grid import VoxelGrid
from occjax.predict.cost_map import CostMap
from occjax.predict.occupancy import Occupancy
from occjax.predict.ros_bag import ros_bag, stamp_of

# Longer than wide, so that nothing can be turned without being seen.
GRID = VoxelGrid("ego", (-2.0, -6.0, -1.0), 0.5, (20, 30, 4))
CAR = 4
# x from 6 m, y from -5 m, z from 0 m on.
CELL = (16, 2, 2)
STAMP_NS = 1532402927_647951000


def a_frame():
    logits = np.zeros((*GRID.shape, 18), np.float32)
    logits[..., FREE] = 20
    logits[CELL] = 0
    logits[(*CELL, CAR)] = 5
    values = np.zeros(GRID.shape[:2], np.int8)
    values[CELL[:2]], values[0, -1] = 100, -1
    return Occupancy(logits, logits.argmax(-1).astype(np.uint8), 1.0, GRID), CostMap(values, 0.5, GRID.lower_m[:2])


@pytest.fixture
def messages(tmp_path):
    """Of a bag with two frames, by topic, as the other library reads them; the bag's folder."""
    need = "pip install 'occjax[ros]' mcap-ros2-support"
    pytest.importorskip("rosbags", reason=need)
    decoder = pytest.importorskip("mcap_ros2.decoder", reason=need)
    reader = pytest.importorskip("mcap.reader", reason=need)
    folder = tmp_path / "bags/drive"
    with ros_bag(folder, "ego") as bag:
        assert not folder.exists()
        for stamp_ns in (STAMP_NS, STAMP_NS + 500_000_000):
            bag.write(*a_frame(), stamp_ns)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["drive"]
    found = {}
    with (folder / "drive.mcap").open("rb") as file:
        for schema, channel, message, decoded in reader.make_reader(
            file, decoder_factories=[decoder.DecoderFactory()]
        ).iter_decoded_messages():
            found.setdefault((channel.topic, schema.name), []).append((message.log_time, decoded))
    return found, folder


def test_the_cost_map_has_the_obstacle_where_it_stands(messages):
    found, _ = messages
    (time_ns, grid), (later_ns, _) = found["/occupancy/cost_map", "nav_msgs/msg/OccupancyGrid"]
    assert (time_ns, later_ns) == (STAMP_NS, STAMP_NS + 500_000_000)
    assert (grid.header.stamp.sec, grid.header.stamp.nanosec) == (1532402927, 647951000)
    assert grid.header.frame_id == "base_link"
    info = grid.info
    assert (info.width, info.height, info.resolution) == (20, 30, 0.5)
    # As nav2 finds the place of a cell: row by row along x, from the origin, along the origin's axes.
    rotation = info.origin.orientation
    assert (rotation.x, rotation.y, rotation.z, rotation.w) == (0, 0, 0, 1)
    data = np.array(grid.data)
    assert data.size == 600 and set(data) == {-1, 0, 100}
    row, column = divmod(int(np.flatnonzero(data == 100)[0]), info.width)
    assert info.origin.position.x + (column + 0.5) * info.resolution == 6.25
    assert info.origin.position.y + (row + 0.5) * info.resolution == -4.75
    row, column = divmod(int(np.flatnonzero(data == -1)[0]), info.width)
    assert (column, row) == (0, 29)


def test_the_points_are_the_voxels_that_are_not_free(messages):
    found, _ = messages
    (_, cloud), _ = found["/occupancy/points", "sensor_msgs/msg/PointCloud2"]
    assert cloud.header.frame_id == "base_link" and cloud.header.stamp.sec == 1532402927
    assert (cloud.height, cloud.width, cloud.is_bigendian, cloud.is_dense) == (1, 1, False, True)
    assert cloud.row_step == cloud.point_step == len(bytes(cloud.data))
    # By what the fields say of themselves; of sensor_msgs/PointField, 2 is UINT8 and 7 FLOAT32.
    kinds = {2: "<u1", 7: "<f4"}
    values = {
        field.name: np.frombuffer(bytes(cloud.data), kinds[field.datatype], field.count, field.offset)[0]
        for field in cloud.fields
    }
    probability = values.pop("probability")
    assert values == {"x": 6.25, "y": -4.75, "z": 0.25, "class": CAR}
    assert probability == pytest.approx(np.exp(5) / (np.exp(5) + 17))


def test_the_folder_is_a_bag_of_ros_2(messages):
    from rosbags.rosbag2 import Reader

    _, folder = messages
    with Reader(folder) as bag:
        assert {connection.topic: connection.msgcount for connection in bag.connections} == {
            "/occupancy/cost_map": 2,
            "/occupancy/points": 2,
        }
        assert bag.start_time == STAMP_NS
    with pytest.raises(UserError, match="drive is there already"), ros_bag(folder, "ego"):
        pass


def test_a_bag_that_breaks_off_leaves_nothing(tmp_path):
    pytest.importorskip("rosbags", reason="pip install 'occjax[ros]'")
    with pytest.raises(RuntimeError), ros_bag(tmp_path / "bag", "lidar") as bag:
        bag.write(*a_frame(), 0)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_without_the_package_the_command_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rosbags.rosbag2", None)
    monkeypatch.setitem(sys.modules, "rosbags", None)
    with pytest.raises(UserError, match=r"pip install 'occjax\[ros\]'"), ros_bag(tmp_path / "bag", "ego"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "stamp_ns"),
    [
        ("0", 0),
        ("2.5", 2_500_000_000),
        ("1532402927.647951", STAMP_NS),
        ("1532402927647.951", STAMP_NS),
        ("1532402927647951", STAMP_NS),
        ("1532402927647951003", STAMP_NS + 3),
    ],
)
def test_names_become_stamps(name, stamp_ns):
    assert stamp_of(name) == stamp_ns


@pytest.mark.parametrize("name", ["front", "nan", "inf", "-1", "3000000000", "1e300"])
def test_names_that_are_no_times_are_told(name):
    with pytest.raises(UserError, match="is no time"):
        stamp_of(name)

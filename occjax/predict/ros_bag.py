"""ROS 2 bag of predictions: a cost map and a cloud of occupied voxels for each frame, written without ROS."""

import contextlib
import importlib
import tempfile
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from occjax.errors import UserError
from occjax.predict.cost_map import CostMap
from occjax.predict.occupancy import Occupancy, OccupiedPoints

COST_MAP_TOPIC, POINTS_TOPIC = "/occupancy/cost_map", "/occupancy/points"
# By the grid's frame: nuScenes' own name for its LiDAR (x right, y forward), REP 105's for x forward and y left.
FRAME_IDS = {"lidar": "LIDAR_TOP", "ego": "base_link"}
# Of a point: numpy's type and sensor_msgs/PointField's number for it.
_FLOAT32, _UINT8 = ("<f4", 7), ("u1", 2)
_FIELDS = {"x": _FLOAT32, "y": _FLOAT32, "z": _FLOAT32, "probability": _FLOAT32, "class": _UINT8}
# Aligned as PCL likes it: three bytes of padding behind the class.
POINT = np.dtype([(name, kind) for name, (kind, _) in _FIELDS.items()], align=True)
# The largest second of a builtin_interfaces/Time.
_LAST_SECOND = 2**31 - 1


class RosBag:
    """A bag that is open: `ros_bag` opens one."""

    def __init__(self, writer: Any, store: Any, frame_id: str):
        self._writer, self._store, self._frame_id = writer, store, frame_id
        self._connections: dict[str, Any] = {}

    def write(self, occupancy: Occupancy, costs: CostMap | None, stamp_ns: int) -> None:
        """Adds a frame.

        Args:
          occupancy: of the frame; its voxels that are not free become points.
          costs: of the frame; None = points alone.
          stamp_ns: time of the frame, nanoseconds since 1970.
        """
        if costs is not None:
            self._add(COST_MAP_TOPIC, self._grid(costs, stamp_ns), stamp_ns)
        self._add(POINTS_TOPIC, self._cloud(occupancy.points(), stamp_ns), stamp_ns)

    def _add(self, topic: str, message: Any, stamp_ns: int) -> None:
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(topic, message.__msgtype__, typestore=self._store)
        connection = self._connections[topic]
        self._writer.write(connection, stamp_ns, self._store.serialize_cdr(message, connection.msgtype))

    def _make(self, kind: str, **fields: Any) -> Any:
        return self._store.types[kind](**fields)

    def _time(self, stamp_ns: int) -> Any:
        seconds, nanoseconds = divmod(stamp_ns, 10**9)
        return self._make("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)

    def _header(self, stamp_ns: int) -> Any:
        return self._make("std_msgs/msg/Header", stamp=self._time(stamp_ns), frame_id=self._frame_id)

    def _grid(self, costs: CostMap, stamp_ns: int) -> Any:
        x, y = costs.origin_m
        # The corner of cell [0, 0]; the map's axes are those of its frame.
        origin = self._make(
            "geometry_msgs/msg/Pose",
            position=self._make("geometry_msgs/msg/Point", x=float(x), y=float(y), z=0.0),
            orientation=self._make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0),
        )
        width, height = costs.values.shape
        info = self._make(
            "nav_msgs/msg/MapMetaData",
            map_load_time=self._time(stamp_ns),
            resolution=float(costs.resolution_m),
            width=width,
            height=height,
            origin=origin,
        )
        return self._make(
            "nav_msgs/msg/OccupancyGrid", header=self._header(stamp_ns), info=info, data=costs.message_data()
        )

    def _cloud(self, points: OccupiedPoints, stamp_ns: int) -> Any:
        data = point_data(points)
        offsets = {name: offset for name, (_, offset, *_) in (POINT.fields or {}).items()}
        fields = [
            self._make("sensor_msgs/msg/PointField", name=name, offset=offsets[name], datatype=number, count=1)
            for name, (_, number) in _FIELDS.items()
        ]
        return self._make(
            "sensor_msgs/msg/PointCloud2",
            header=self._header(stamp_ns),
            height=1,
            width=len(points.classes),
            fields=fields,
            is_bigendian=False,
            point_step=POINT.itemsize,
            row_step=len(data),
            data=data,
            is_dense=True,
        )


@contextlib.contextmanager
def ros_bag(folder: Path, frame: str) -> Iterator[RosBag]:
    """A new bag: the folder that `ros2 bag play` wants, with one MCAP file; it appears when it is whole.

    Args:
      folder: not there yet.
      frame: of the grid, a key of `FRAME_IDS`.

    Raises:
      UserError: the package rosbags is absent, or the folder is there already.
      OSError: it cannot be written.
    """
    try:
        # By name, as everything that comes with an extra: type checkers run without it.
        rosbag2, typesys = importlib.import_module("rosbags.rosbag2"), importlib.import_module("rosbags.typesys")
    except ImportError as error:
        raise UserError(f"a ROS bag needs the package rosbags ({error}): pip install 'occjax[ros]'") from error
    if folder.exists():
        raise UserError(f"{folder} is there already, and a bag is not written over; choose another --ros-bag")
    store = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        # Under its own name, which the MCAP file in it takes over. Version 8 of the metadata is read by more of ROS 2.
        whole = Path(scratch) / folder.name
        with rosbag2.Writer(whole, version=8, storage_plugin=rosbag2.StoragePlugin.MCAP) as writer:
            yield RosBag(writer, store, FRAME_IDS[frame])
        whole.rename(folder)


def point_data(points: OccupiedPoints) -> UInt8[np.ndarray, "bytes"]:
    """The points as a cloud's `data`, `POINT` by `POINT`."""
    data = np.zeros(len(points.classes), POINT)
    for axis, name in enumerate("xyz"):
        data[name] = points.position_m[:, axis]
    data["probability"], data["class"] = points.probability, points.classes
    return data.view(np.uint8)


def stamp_of(time: str) -> int:
    """Nanoseconds since 1970 of a frame's name: seconds, or as many digits as milli-, micro- or nanoseconds have today.

    1532402927.647, 1532402927647, 1532402927647951 and 1532402927647951000 are of the same second.

    Raises:
      UserError: it is no time that ROS can hold.
    """
    try:
        number = Decimal(time)
        if not number.is_finite():
            raise InvalidOperation
    except InvalidOperation as error:
        raise UserError(
            f"{time!r} is no time, as 1532402927.647 is; rename the images, or leave --ros-bag out"
        ) from error
    unit = next((unit for limit, unit in ((11, 9), (14, 6), (17, 3)) if number < 10**limit), 0)
    stamp_ns = int(number * 10**unit)
    if not 0 <= stamp_ns // 10**9 <= _LAST_SECOND:
        raise UserError(f"{time} is no time since 1970 that ROS can hold, until 2038; rename the images")
    return stamp_ns

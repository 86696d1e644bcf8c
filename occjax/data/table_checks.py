"""Rules on the rows of nuScenes tables that are needed; what breaks one is named by file, token, field and value."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from occjax.errors import DataError

# Of the 13 tables, those that are needed: without maps, annotations or logs nothing is missed here.
TABLES = ("sample", "sample_data", "scene", "ego_pose", "calibrated_sensor", "sensor")
# Of the messages: a table that a converter wrote is wrong in every row.
_SHOWN = 10
_LARGEST_IMAGE = 65_535  # what JPEG can say, pixels to a side
# Metres. A sensor is on its car: 1,500 is a calibration in millimetres. Global positions may count from the equator.
_FAR_ON_CAR, _FAR_ON_EARTH = 100.0, 1e8


class Rule(NamedTuple):
    """What a value has to be: in words, and as a test that may raise TypeError, ValueError or OverflowError."""

    words: str
    holds: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_list(value: Any, length: int, largest: float = math.inf) -> bool:
    return isinstance(value, list) and len(value) == length and all(_is_number(v) and abs(v) <= largest for v in value)


def _is_name(value: Any) -> bool:
    # Tokens and names become names of files, here and where predictions are written.
    return isinstance(value, str) and value.isprintable() and not {"/", "\\"} & {*value} and value.strip(". ") != ""


def _is_file(value: Any) -> bool:
    path = Path(value) if isinstance(value, str) and value.isprintable() and value.strip(". ") else None
    return path is not None and not path.is_absolute() and ".." not in path.parts


def _is_intrinsics(value: Any) -> bool:
    if not (isinstance(value, list) and len(value) == 3 and all(_is_list(row, 3) for row in value)):
        return False
    return value[0][0] > 0 and value[1][1] > 0 and value[1][0] == 0 and value[2] == [0, 0, 1]


def _is_rotation(value: Any) -> bool:
    return _is_list(value, 4) and abs(math.hypot(*value) - 1) <= 0.05  # those that were rounded are of length 1 still


_TOKEN = Rule("text without slashes, not empty", _is_name)
_SIZE = Rule(
    f"a whole number of pixels from 1 to {_LARGEST_IMAGE}",
    lambda v: _is_number(v) and v == int(v) and 1 <= v <= _LARGEST_IMAGE,
)
_ROTATION = Rule("a quaternion of length 1, four finite numbers w, x, y, z", _is_rotation)
INTRINSICS = Rule("3x3 with positive focal lengths, finite, and last row 0, 0, 1", _is_intrinsics)
# By table and field, whatever the sensor is.
_RULES = {
    "sensor": {"channel": _TOKEN, "modality": _TOKEN},
    "scene": {"name": _TOKEN},
    "sample": {
        "timestamp": Rule(
            "a whole number of microseconds", lambda v: _is_number(v) and v == int(v) and abs(v) < 1 << 62
        )
    },
    "sample_data": {"filename": Rule("a path below the root", _is_file)},
    "ego_pose": {
        "rotation": _ROTATION,
        "translation": Rule("three finite numbers, metres", lambda v: _is_list(v, 3, _FAR_ON_EARTH)),
    },
    "calibrated_sensor": {
        "rotation": _ROTATION,
        "translation": Rule(
            f"three finite numbers, metres, at most {_FAR_ON_CAR:g}", lambda v: _is_list(v, 3, _FAR_ON_CAR)
        ),
    },
}
_REFERENCES = {
    "sample": {"scene_token": "scene"},
    "sample_data": {"sample_token": "sample", "ego_pose_token": "ego_pose"},
}


class _Findings:
    """Problems of one folder of tables, all raised at once."""

    def __init__(self, folder: Path):
        self._folder, self._found = folder, []

    def add(self, message: str) -> None:
        self._found.append(message)

    def check(self, table: str, row: dict, rules: dict[str, Rule]) -> None:
        """Holds the fields of a row against rules."""
        for field, rule in rules.items():
            if field not in row:
                self.add(f"{table}.json, token {row['token']}: it has no {field}, which must be {rule.words}")
                continue
            try:
                holds = rule.holds(row[field])
            except (TypeError, ValueError, OverflowError):  # an integer of a thousand digits
                holds = False
            if not holds:
                self.add(
                    f"{table}.json, token {row['token']}: {field} must be {rule.words}, found {_short(row[field])}"
                )

    def follow(self, table: str, row: dict, field: str, other: str, rows: dict[str, dict]) -> dict | None:
        """The row of another table that a field names."""
        token = row.get(field)
        found = rows.get(token) if isinstance(token, str) else None
        if found is None:
            self.add(
                f"{other}.json has no row {token} that {table} {row['token']} names as its {field}"
                if isinstance(token, str)
                else f"{table}.json, token {row['token']}: {field} must be a token of {other}.json, "
                f"found {_short(token)}"
            )
        return found

    def raise_any(self) -> None:
        if self._found:
            more = f"\n  ... and {len(self._found) - _SHOWN} more" if len(self._found) > _SHOWN else ""
            listed = "\n".join(f"  {message}" for message in self._found[:_SHOWN])
            raise DataError(
                f"the tables in {self._folder} do not hold together; mend them where they were written, or extract "
                f"the metadata archive again:\n{listed}{more}"
            )


def read_checked(root: Path, version: str, lidar_channel: str) -> dict[str, list[dict]]:
    """Rows of the tables that are needed; of sample_data those of keyframes' cameras and of the LiDAR.

    Raises:
      DataError: a table cannot be read, or a value that is needed breaks a rule; names table, token, field and value,
        ten of them and how many there are.
    """
    folder = root / version
    tables = {name: _read(folder / f"{name}.json") for name in TABLES}
    findings = _Findings(folder)
    by_token = {name: _by_token(name, rows, findings) for name, rows in tables.items()}
    findings.raise_any()
    for name in ("sensor", "scene", "sample"):
        for row in tables[name]:
            findings.check(name, row, _RULES[name])
            for field, other in _REFERENCES.get(name, {}).items():
                findings.follow(name, row, field, other, by_token[other])
    findings.raise_any()
    tables["sample_data"], used = _keyframe_records(tables["sample_data"], by_token, lidar_channel, findings)
    # Poses come at the rate of the sensors: only those that keyframes name are looked at.
    for name, tokens in used.items():
        tables[name] = [by_token[name][token] for token in tokens]
        for row in tables[name]:
            findings.check(name, row, _RULES[name])
    findings.raise_any()
    return tables


def _keyframe_records(
    records: list[dict], by_token: dict[str, dict[str, dict]], lidar_channel: str, findings: _Findings
) -> tuple[list[dict], dict[str, dict[str, None]]]:
    """Records of the cameras and the LiDAR at keyframes, and the tokens of the rows that they use, by table."""
    kept: list[dict] = []
    used: dict[str, dict[str, None]] = {"ego_pose": {}, "calibrated_sensor": {}}
    seen: dict[tuple[str, str], str] = {}
    for record in records:
        is_key_frame = record.get("is_key_frame")
        if not isinstance(is_key_frame, bool):
            findings.add(
                f"sample_data.json, token {record['token']}: is_key_frame must be true or false, "
                f"found {_short(is_key_frame)}"
            )
        if is_key_frame is not True:
            continue
        calibration = findings.follow(
            "sample_data", record, "calibrated_sensor_token", "calibrated_sensor", by_token["calibrated_sensor"]
        )
        sensor = calibration and findings.follow(
            "calibrated_sensor", calibration, "sensor_token", "sensor", by_token["sensor"]
        )
        is_camera = bool(sensor) and sensor["modality"] == "camera"
        # Of radars, and of other LiDARs, nothing is read.
        if not (sensor and calibration) or not (is_camera or sensor["channel"] == lidar_channel):
            continue
        findings.check("sample_data", record, _RULES["sample_data"])
        for field, other in _REFERENCES["sample_data"].items():
            findings.follow("sample_data", record, field, other, by_token[other])
        if is_camera:
            findings.check("sample_data", record, {"width": _SIZE, "height": _SIZE})
            if calibration["token"] not in used["calibrated_sensor"]:
                findings.check("calibrated_sensor", calibration, {"camera_intrinsic": INTRINSICS})
        place = (str(record.get("sample_token")), sensor["channel"])
        if place in seen:
            findings.add(f"sample_data.json: {seen[place]} and {record['token']} are both {place[1]} of one keyframe")
        seen[place] = record["token"]
        kept.append(record)
        used["calibrated_sensor"][calibration["token"]] = None
        if isinstance(record.get("ego_pose_token"), str) and record["ego_pose_token"] in by_token["ego_pose"]:
            used["ego_pose"][record["ego_pose_token"]] = None
    return kept, used


def _read(path: Path) -> list[dict]:
    remedy = "extract the metadata archive of this version again"
    try:
        rows = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; {remedy}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"cannot read {path}: it is no JSON ({error}); {remedy}") from error
    if not isinstance(rows, list):
        raise DataError(f"{path} must hold a list of rows, not a {type(rows).__name__}; {remedy}")
    for number, row in enumerate(rows):
        if not (isinstance(row, dict) and _is_name(row.get("token"))):
            raise DataError(
                f"{path}: row {number} must be an object with a token, text without slashes, found {_short(row)}; "
                f"{remedy}"
            )
    return rows


def _by_token(table: str, rows: list[dict], findings: _Findings) -> dict[str, dict]:
    found = {row["token"]: row for row in rows}
    if len(found) < len(rows):
        counted: set[str] = set()
        for row in rows:
            if row["token"] in counted:
                findings.add(f"{table}.json has two rows with the token {row['token']}")
            counted.add(row["token"])
    return found


def _short(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value, default=str)
    return text if len(text) <= 120 else f"{text[:120]}..."

"""Boxes around the objects of a scene, with identity over time, LiDAR counts and visibility."""

import cv2
import numpy as np

from occjax.synthetic.city import City
from occjax.synthetic.objects import CATEGORIES
from occjax.synthetic.shapes import CORNER_SIGNS
from occjax.synthetic.tables import attribute_of, link, make_token, pose_record

REACH_M = 70.0


def yaw_pose(yaw_rad, position) -> np.ndarray:
    """[4, 4] pose of something upright."""
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(yaw_rad), -np.sin(yaw_rad)], [np.sin(yaw_rad), np.cos(yaw_rad)]]
    pose[:3, 3] = position
    return pose


def box_pose(city: City, index, time_s: float) -> np.ndarray:
    """[4, 4] pose, city frame, of the centre of an object's box."""
    half_height = city.half_sizes_m[index, 2]
    return yaw_pose(city.things[index].yaw, city.thing_position(index, time_s) + [0, 0, half_height])


def unoccluded_area(cam_from_box, half_size, pixel_from_cam, width: int, height: int) -> float:
    """Pixels that a box covers in an image when nothing stands before it; 0 if any of it lies behind the camera."""
    corners = CORNER_SIGNS * half_size @ cam_from_box[:3, :3].T + cam_from_box[:3, 3]
    if corners[:, 2].min() < 0.1:
        return 0.0
    pixels = corners @ pixel_from_cam.T
    pixels = np.clip(pixels[:, :2] / pixels[:, 2:], 0, (width, height))
    return float(cv2.contourArea(cv2.convexHull(pixels.astype(np.float32))))


def visibility_token(seen, possible) -> str:
    """nuScenes' four bins of the visible share; a solid fills about 0.8 of the outline of its box."""
    share = seen / (0.8 * possible) if possible > 0 else 0.0
    return str(1 + int(np.searchsorted((0.4, 0.6, 0.8), share)))


def annotation_records(city: City, scene_name: str, frames: list[dict]) -> tuple[list[dict], list[dict]]:
    """Instances and annotations of a scene.

    Args:
      frames: per keyframe: `token`, `time_s`, `ego_xy` (city frame), and per object `lidar_points`, `seen_px`,
        `possible_px`.
    """
    instances, annotations = [], []
    for index, thing in enumerate(city.things):
        if thing.name not in CATEGORIES:
            continue
        positions = np.array([city.thing_position(index, f["time_s"])[:2] for f in frames])
        near = np.linalg.norm(positions - [f["ego_xy"] for f in frames], axis=1) < REACH_M
        if not near.any():
            continue
        token = make_token("instance", scene_name, index)
        length, width, height = (2 * city.half_sizes_m[index]).tolist()
        ridden = any(solid.material == "cloth" for solid in thing.solids)
        chain = []
        for frame in (f for f, n in zip(frames, near, strict=True) if n):
            chain.append(
                {
                    "token": make_token("annotation", scene_name, index, frame["token"]),
                    "sample_token": frame["token"],
                    "instance_token": token,
                    "visibility_token": visibility_token(frame["seen_px"][index], frame["possible_px"][index]),
                    "attribute_tokens": attribute_of(thing.name, thing.speed, ridden),
                    **pose_record(city.global_from_city @ box_pose(city, index, frame["time_s"])),
                    "size": [width, length, height],
                    "num_lidar_pts": int(frame["lidar_points"][index]),
                    "num_radar_pts": 0,
                }
            )
        link(chain)
        annotations += chain
        instances.append(
            {
                "token": token,
                "category_token": make_token("category", CATEGORIES[thing.name]),
                "nbr_annotations": len(chain),
                "first_annotation_token": chain[0]["token"],
                "last_annotation_token": chain[-1]["token"],
            }
        )
    return instances, annotations

"""Annotations: boxes around the objects of a scene, with identity over time, LiDAR counts and visibility."""

import itertools

import cv2
import numpy as np

from occjax.synthetic.city import City
from occjax.synthetic.objects import CATEGORIES
from occjax.synthetic.shapes import CORNER_SIGNS
from occjax.synthetic.tables import attribute_tokens, link, make_token, pose_record, row

# No box farther from the ego than the corners of the 100 m label grid (70.7 m): no label could show its object.
REACH_M = 70.0


def unoccluded_area(
    cam_from_box: np.ndarray, half_size: np.ndarray, pixel_from_cam: np.ndarray, width: int, height: int
) -> float:
    """Pixels that a box covers in an image when nothing stands before it; 0 if any of it lies behind the camera.

    Args:
      cam_from_box: [4, 4] from the centre of the box.
      half_size: [3] half length, width and height, metres.
      pixel_from_cam: [3, 3] intrinsics of an image of `width` x `height` pixels.
    """
    corners = CORNER_SIGNS * half_size @ cam_from_box[:3, :3].T + cam_from_box[:3, 3]
    # A corner beside or behind the camera has no pixel, and the outline of the others would be none of the box.
    if corners[:, 2].min() < 0.1:
        return 0.0
    pixels = corners @ pixel_from_cam.T
    pixels = np.clip(pixels[:, :2] / pixels[:, 2:], 0, (width, height))
    return float(cv2.contourArea(cv2.convexHull(pixels.astype(np.float32))))


def visibility_token(seen_px: float, possible_px: float) -> str:
    """Token ("1" to "4") of nuScenes' four bins of the visible share of an object, from pixels over all cameras."""
    # Tapered and round solids leave the corners of their box empty: whole ones fill about 0.8 of its outline.
    share = seen_px / (0.8 * possible_px) if possible_px > 0 else 0.0
    return str(1 + int(np.searchsorted((0.4, 0.6, 0.8), share)))


def annotation_records(city: City, scene_name: str, frames: list[dict]) -> tuple[list[dict], list[dict]]:
    """Rows of the tables instance and sample_annotation of a scene.

    Args:
      frames: per keyframe: `token`, `time_s`, `ego_xy` [2] (city frame, metres), and `lidar_points`, `seen_px`,
        `possible_px` [things].
    """
    instances, annotations = [], []
    for index, thing in enumerate(city.things):
        if thing.name not in CATEGORIES:  # trees and buildings have labels, but no boxes
            continue
        positions = thing.position_at([frame["time_s"] for frame in frames])
        near = np.linalg.norm(positions - [frame["ego_xy"] for frame in frames], axis=1) < REACH_M
        if not near.any():
            continue
        token = make_token("instance", scene_name, index)
        length, width, height = (2 * thing.half_size).tolist()
        # Of all vehicles only those with a rider hold a solid of cloth.
        ridden = any(solid.material == "cloth" for solid in thing.solids)
        chain = [
            row(
                ("annotation", scene_name, index, frame["token"]),
                sample_token=frame["token"],
                instance_token=token,
                visibility_token=visibility_token(frame["seen_px"][index], frame["possible_px"][index]),
                attribute_tokens=attribute_tokens(thing.name, thing.speed, ridden),
                **pose_record(city.global_from_city @ thing.box_pose(frame["time_s"])),
                size=[width, length, height],  # nuScenes' order, not x, y, z
                num_lidar_pts=int(frame["lidar_points"][index]),
                num_radar_pts=0,
            )
            for frame in itertools.compress(frames, near)
        ]
        # An object that leaves the reach and comes back stays one instance, linked across the gap, as in nuScenes.
        link(chain)
        annotations += chain
        instances.append(
            row(
                ("instance", scene_name, index),
                category_token=make_token("category", CATEGORIES[thing.name]),
                nbr_annotations=len(chain),
                first_annotation_token=chain[0]["token"],
                last_annotation_token=chain[-1]["token"],
            )
        )
    return instances, annotations

"""Cubes: voxels in perspective, shaded, seen from behind and above the car."""

import cv2
import numpy as np

from occjax.classes import FREE, IGNORE
from occjax.drawing.style import CAR_COLOR, COLOR_TABLE, car_box_m, grid_from_car
from occjax.grid import VoxelGrid

_CAR = 254  # marks the recording car among the classes
# Brightness of faces by axis as (forward, left, up), first the one that looks to the negative side.
_LIGHT = ((0.74, 0.60), (0.66, 0.84), (0.50, 1.0))
_SKY = (222, 232, 243)
_GROUND = ((168, 170, 174), (205, 208, 212))  # near, at the horizon: where nothing is known to be
_SUPERSAMPLE = 2  # drawn so much larger and shrunk, because OpenCV smooths no edges of filled polygons
# Camera and the point it looks at as (forward, left, up) from the ground under the frame's origin: the whole street
# ahead is in view, and the car's neighbours are still told apart.
_EYE_M, _TARGET_M = (-27.0, 0.0, 24.0), (9.0, 0.0, 0.0)
_FIELD_OF_VIEW_RAD = 1.05  # horizontal


def render_voxels(semantics: np.ndarray, grid: VoxelGrid, *, width: int = 960, height: int = 540) -> np.ndarray:
    """A perspective picture of occupied voxels; free and unknown ones are not drawn, the car is a white box.

    Args:
      semantics: uint8 [X, Y, Z] classes on `grid`.
      grid: its frame tells where forward is.
      width, height: pixels.

    Returns:
      uint8 RGB [height, width, 3].
    """
    voxels = _with_car(semantics, grid)
    car_floor = car_box_m(grid.frame)[0][2]
    axes = grid_from_car(grid.frame)
    # The whole published grids are looked at from afar, a crop of them from so near that it fills the picture.
    ahead_m = (axes.T @ grid.upper_m)[0]
    nearness = min(max(ahead_m / 40, 0.5), 1.0)
    eye, target = (axes @ (np.multiply(point, nearness) + (0, 0, car_floor)) for point in (_EYE_M, _TARGET_M))
    size = (width * _SUPERSAMPLE, height * _SUPERSAMPLE)
    focal_px = size[0] / 2 / np.tan(_FIELD_OF_VIEW_RAD / 2)
    corners, colors = _visible_faces(voxels, grid, eye)
    cam_from_grid = _look_at(eye, target)
    points = (corners.reshape(-1, 3) - eye) @ cam_from_grid.T
    depth = points[:, 2].reshape(-1, 4)
    pixels = points[:, :2] / np.maximum(points[:, 2:], 1e-3) * focal_px + np.array(size) / 2
    pixels = pixels.reshape(-1, 4, 2)
    # Faces nearer than a metre, or behind the camera, would project to anywhere.
    in_view = (depth.min(1) > 1.0) & np.all((pixels.max(1) > 0) & (pixels.min(1) < size), axis=-1)
    # A touch of haze tells near from far.
    haze = (np.clip(depth.mean(1, keepdims=True) / 160, 0, 0.35)) * (depth.mean(1, keepdims=True) > 0)
    colors = colors * (1 - haze) + np.array(_SKY) * haze
    forward = (target - eye) * (1, 1, 0)
    _, down, ahead = cam_from_grid @ forward
    canvas = _backdrop(*size, horizon=size[1] / 2 + down / ahead * focal_px)
    # In sixteenths of a pixel.
    polygons = np.round(pixels[in_view] * 16).astype(np.int32)
    for polygon, color in zip(polygons, colors[in_view].tolist(), strict=True):
        cv2.fillConvexPoly(canvas, polygon, color, lineType=cv2.LINE_8, shift=4)
    return cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)


def _with_car(semantics: np.ndarray, grid: VoxelGrid) -> np.ndarray:
    """Classes [X, Y, Z] with the recording car in their midst."""
    lower, upper = (grid_from_car(grid.frame) @ corner for corner in car_box_m(grid.frame))
    centers = grid.centers_m()
    inside = np.all((centers > np.minimum(lower, upper)) & (centers < np.maximum(lower, upper)), axis=-1)
    return np.where(inside, np.uint8(_CAR), semantics)


def _visible_faces(voxels: np.ndarray, grid: VoxelGrid, eye: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Faces between an occupied voxel and a free neighbour that look at `eye`, far ones first.

    Returns:
      float64 [F, 4, 3] corners in metres, in order around the face, and float64 [F, 3] RGB.
    """
    occupied = (voxels != FREE) & (voxels != IGNORE)
    eye_index = (eye - grid.lower_m) / grid.voxel_size_m
    # Faces are lit by how they stand to the car, so that both frames show one street alike.
    light = np.abs(grid_from_car(grid.frame)).argmax(1)  # grid axis to car axis
    palette = COLOR_TABLE.astype(np.float64)
    palette[_CAR] = CAR_COLOR
    indices, corners, colors = [], [], []
    for axis in range(3):
        position = np.arange(voxels.shape[axis]).reshape([-1 if a == axis else 1 for a in range(3)])
        for side in (0, 1):
            towards = eye_index[axis] > position + 1 if side else eye_index[axis] < position
            hidden = _neighbour(occupied, axis, side)
            index = np.argwhere(occupied & ~hidden & towards)
            # Around the face, with the fixed axis put between or beside the two of its plane.
            offset = np.insert([(0, 0), (1, 0), (1, 1), (0, 1)], axis, side, axis=1)
            indices.append(index)
            corners.append(index[:, None] + offset)
            flips = grid.frame == "lidar" and axis == 0  # grid x points right, the car's second axis left
            brightness = _LIGHT[light[axis]][side ^ flips]
            height = 0.86 + 0.14 * index[:, 2:] / max(voxels.shape[2] - 1, 1)
            colors.append(palette[voxels[tuple(index.T)]] * brightness * height)
    index, corner, color = np.concatenate(indices), np.concatenate(corners), np.concatenate(colors)
    # Back to front, axis inside axis: an exact painter's order for the cells of a grid.
    away = np.abs(index + 0.5 - eye_index)
    order = np.lexsort((-away[:, 2], -away[:, 1], -away[:, 0]))
    return corner[order] * grid.voxel_size_m + grid.lower_m, color[order]


def _neighbour(occupied: np.ndarray, axis: int, side: int) -> np.ndarray:
    """Whether the neighbour on that side is occupied, bool [X, Y, Z]; outside the grid it is not."""
    # What wraps around comes from the empty shell.
    return np.roll(np.pad(occupied, 1), -1 if side else 1, axis)[1:-1, 1:-1, 1:-1]


def _look_at(eye: np.ndarray, target: np.ndarray) -> np.ndarray:
    """[3, 3] rotation from the grid to a camera with x right, y down, z forward."""
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward])


def _backdrop(width: int, height: int, *, horizon: float) -> np.ndarray:
    """Sky above the row `horizon`, plain ground below: uint8 RGB [height, width, 3]."""
    row = np.arange(height)[:, None]
    share = np.clip((row - horizon) / max(height - horizon, 1), 0, 1)
    ground = np.array(_GROUND[1]) * (1 - share) + np.array(_GROUND[0]) * share
    color = np.where(row < horizon, np.array(_SKY), ground)
    return np.repeat(color[:, None], width, axis=1).astype(np.uint8)

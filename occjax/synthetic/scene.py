"""One scene on disk: images, sweeps, labels, masks, the simulated teacher, and the scene's rows of the tables."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np

from occjax.classes import FREE
from occjax.config import NUSCENES_CAMERAS, SyntheticConfig
from occjax.geometry import invert_rigid
from occjax.grid import OCC3D_GRID, SURROUNDOCC_GRID
from occjax.pooling import highest_occupied
from occjax.synthetic import files, rig, tables
from occjax.synthetic.annotate import annotation_records, unoccluded_area
from occjax.synthetic.city import KEYFRAME_STEP_S, LEAD_IN_S, City, build_city
from occjax.synthetic.ground import PAVEMENT, ROAD, TEXEL_M
from occjax.synthetic.lidar import sweep
from occjax.synthetic.render import Painter, see
from occjax.synthetic.tables import make_token, row
from occjax.synthetic.teacher import column_maximum, hard_labels, simulate_teacher
from occjax.synthetic.visibility import camera_mask, lidar_mask
from occjax.synthetic.voxelize import voxelize

EPOCH_US = 1_600_000_000_000_000  # the 13th of September 2020, as `date_captured` says; scenes are an hour apart


@dataclasses.dataclass(frozen=True)
class ScenePlan:
    """What one worker needs to write one scene.

    Attributes:
      root: folder to write into.
      name, split: of the scene; `split` is "train" or "val".
      seed: entropy of the scene's generators.
      number: position among all scenes, which sets its date.
      config: of the world.
      dump_position: position of its first keyframe in the teacher dump of its split.
    """

    root: Path
    name: str
    split: str
    seed: tuple[int, ...]
    number: int
    config: SyntheticConfig
    dump_position: int


def write_scene(plan: ScenePlan) -> dict[str, list[dict]]:
    """Writes the files of a scene under `plan.root` and returns its rows per table.

    Raises:
      OSError: a file cannot be written.
    """
    # One generator for all: city, sky, then each keyframe's pictures, sweep and teacher. To leave out or move one step
    # changes all that follows.
    rng = np.random.default_rng(plan.seed)
    city = build_city(rng, plan.config.keyframes_per_scene)
    painter = Painter(rng, city)
    key = (plan.name, plan.config.seed)
    start_us = EPOCH_US + plan.number * 3_600_000_000
    poses, samples, frames, chains = [], [], [], {channel: [] for channel in rig.MOUNTS}
    for k in range(plan.config.keyframes_per_scene):
        clock_us = int(1e6 * (LEAD_IN_S + k * KEYFRAME_STEP_S))
        stamp = start_us + clock_us
        samples.append(row(("sample", *key, k), timestamp=stamp, scene_token=make_token("scene", *key)))
        # Rows before files: they give the files their names.
        for channel, chain in chains.items():
            pose, data = _sensor_rows(plan, city, samples[-1]["token"], channel, clock_us, start_us)
            poses.append(pose)
            chain.append(data)
        names = {channel: chain[-1]["filename"] for channel, chain in chains.items()}
        frames.append(_write_keyframe(plan, city, painter, rng, k, samples[-1]["token"], clock_us * 1e-6, names))

    for chain in (samples, *chains.values()):
        tables.link(chain)
    scene = row(
        ("scene", *key),
        name=plan.name,
        description="synthetic city",
        log_token=make_token("log", *key),
        nbr_samples=len(samples),
        first_sample_token=samples[0]["token"],
        last_sample_token=samples[-1]["token"],
    )
    log = row(
        ("log", *key), logfile=plan.name, vehicle="synthetic", date_captured="2020-09-13", location="synthetic-city"
    )
    map_file = f"maps/{plan.name}.png"
    files.write_image(plan.root / map_file, drivable_map(city))
    instances, annotations = annotation_records(city, plan.name, frames)
    return {
        "scene": [scene],
        "log": [log],
        "map": [row(("map", *key), log_tokens=[log["token"]], category="semantic_prior", filename=map_file)],
        "calibrated_sensor": tables.calibration_records(plan.name, plan.config.image_width, plan.config.image_height),
        "sample": samples,
        "ego_pose": poses,
        "sample_data": [data for chain in chains.values() for data in chain],
        "instance": instances,
        "sample_annotation": annotations,
    }


def _sensor_rows(plan, city: City, sample_token, channel, clock_us, start_us) -> tuple[dict, dict]:
    """The ego pose at a sensor's own time stamp, and the sample_data row."""
    # Integers of microseconds throughout: the stamps of poses and data have to be equal, not close.
    time_us = clock_us + rig.MOUNTS[channel].delay_us
    stamp = start_us + time_us
    pose_in_map = tables.pose_record(city.global_from_city @ city.city_from_ego(time_us * 1e-6))
    pose = row(("ego_pose", sample_token, channel), timestamp=stamp, **pose_in_map)
    is_lidar = channel == rig.LIDAR
    data = row(
        ("sample_data", sample_token, channel),
        sample_token=sample_token,
        ego_pose_token=pose["token"],
        calibrated_sensor_token=make_token("calibration", plan.name, channel),
        timestamp=stamp,
        fileformat="pcd" if is_lidar else "jpg",
        is_key_frame=True,
        height=0 if is_lidar else plan.config.image_height,
        width=0 if is_lidar else plan.config.image_width,
        filename=f"samples/{channel}/{plan.name}__{channel}__{stamp}.{'pcd.bin' if is_lidar else 'jpg'}",
    )
    return pose, data


def _write_keyframe(plan, city: City, painter: Painter, rng, k, sample_token, time_s, names) -> dict:
    """Files of one keyframe, by channel at `names`; returns what `annotation_records` asks of a frame."""
    width, height = plan.config.image_width, plan.config.image_height
    city_from_ego = city.city_from_ego(time_s)
    seen_px, possible_px = np.zeros(len(city.things)), np.zeros(len(city.things))
    views = []
    for channel in NUSCENES_CAMERAS:
        camera_time = time_s + rig.MOUNTS[channel].delay_us * 1e-6
        # World and ego as they are when this camera fires, not at the keyframe: movers stand a little elsewhere.
        pose = city.city_from_ego(camera_time) @ rig.ego_from_sensor(channel)
        lens, parts = rig.pixel_from_cam(channel, width, height), city.parts_at(camera_time)
        hits, rays = see(parts, city.ground, pose, lens, width, height)
        image = painter.paint(rng, parts, hits, rays, pose[:3, 3], lens[0, 0])
        files.write_image(plan.root / names[channel], image)
        views.append((lens, invert_rigid(pose) @ city_from_ego, hits.distance))
        on_part = hits.part[hits.part >= 0]
        count = np.bincount(parts.owner[on_part], minlength=len(city.things))
        seen_px += count
        for index in np.flatnonzero(count):
            thing = city.things[index]
            cam_from_box = invert_rigid(pose) @ thing.box_pose(camera_time)
            possible_px[index] += unoccluded_area(cam_from_box, thing.half_size, lens, width, height)

    parts = city.parts_at(time_s)
    city_from_lidar = city_from_ego @ rig.ego_from_sensor(rig.LIDAR)
    turn = sweep(rng, city.ground, parts, city_from_lidar)
    lidar_file = plan.root / names[rig.LIDAR]
    lidar_file.parent.mkdir(parents=True, exist_ok=True)
    turn.points.tofile(lidar_file)

    # Each label set in its own form: SurroundOcc lists the occupied voxels of a LiDAR grid, Occ3D fills an ego grid.
    labels = voxelize(parts, city.ground, SURROUNDOCC_GRID, city_from_lidar)
    occupied = np.argwhere(labels != FREE)
    listed = np.concatenate([occupied, labels[tuple(occupied.T)][:, None]], axis=1).astype(np.int32)
    files.write_npy(plan.root / "surroundocc" / "samples" / f"{lidar_file.name}.npy", listed)
    files.write_npz(
        plan.root / "gts" / plan.name / sample_token / "labels.npz",
        semantics=voxelize(parts, city.ground, OCC3D_GRID, city_from_ego),
        mask_lidar=lidar_mask(OCC3D_GRID, invert_rigid(city_from_ego) @ city_from_lidar, turn),
        mask_camera=camera_mask(OCC3D_GRID, views),
    )
    _write_teacher(plan, rng, k, labels)
    owners = parts.owner[turn.part[turn.part >= 0]]
    return {
        "token": sample_token,
        "time_s": time_s,
        "ego_xy": city_from_ego[:2, 3],
        "lidar_points": np.bincount(owners, minlength=len(city.things)),
        "seen_px": seen_px,
        "possible_px": possible_px,
    }


def _write_teacher(plan: ScenePlan, rng, k: int, labels: np.ndarray) -> None:
    """The simulated teacher of SurroundOcc labels [X, Y, Z], in the layout of GaussianFormer's dump script."""
    # Its file names count the keyframes of a split; the 0 is the position within a batch of one.
    probabilities = simulate_teacher(rng, labels)
    name, dump = f"{plan.dump_position + k:06d}_0", plan.root / "teacher_dump"
    semantics = hard_labels(probabilities)
    files.write_npz(dump / "occ3d_logits" / plan.split / f"{name}_3d_logits_fp16.npz", logits=probabilities)
    files.write_npz(dump / "bev_prob" / plan.split / f"{name}_bev_prob_fp16.npz", prob=column_maximum(probabilities))
    files.write_npy(dump / "occ3d_sem" / plan.split / f"{name}_occ3d_sem.npy", semantics)
    files.write_npy(dump / "bev_sem" / plan.split / f"{name}_bev_sem.npy", highest_occupied(semantics)[0])


def drivable_map(city: City) -> np.ndarray:
    """Mask uint8 [rows, columns], 255 on carriageway and pavement, north up, 0.1 m per pixel from the global origin."""
    mask = np.isin(city.ground.semantic, (ROAD, PAVEMENT)).astype(np.uint8) * 255
    rows, columns = mask.shape
    corners = city.ground.lower_m + np.array([(0, 0), (columns, 0), (0, rows), (columns, rows)]) * TEXEL_M
    upper = (corners @ city.global_from_city[:2, :2].T + city.global_from_city[:2, 3]).max(axis=0)
    size = np.ceil((upper + 10) / TEXEL_M).astype(int)
    # Pixel (column, row) of the map holds global ((column, rows - row)) * TEXEL_M; of the city raster, its own.
    pixel_from_global = np.array([[1 / TEXEL_M, 0, 0], [0, -1 / TEXEL_M, size[1]], [0, 0, 1]])
    # In the plane: without row and column of z.
    global_from_city = np.delete(np.delete(city.global_from_city, 2, axis=0), 2, axis=1)
    city_from_cell = np.array([[TEXEL_M, 0, city.ground.lower_m[0]], [0, TEXEL_M, city.ground.lower_m[1]], [0, 0, 1]])
    matrix: np.ndarray = (pixel_from_global @ global_from_city @ city_from_cell)[:2]
    return cv2.warpAffine(mask, matrix, tuple(int(s) for s in size), flags=cv2.INTER_NEAREST)

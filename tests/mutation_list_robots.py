"""The part of `mutation_list.py` on what users and robots get: rigs, predictions, exports, cost maps, calibration."""

CALIBRATION = "tests/metrics/test_calibration.py"
MISSED = "tests/metrics/test_missed.py"
COST_MAP = "tests/predict/test_cost_map.py"
LENS = "tests/predict/test_lens.py"
RIGS = "tests/predict/test_calibration.py"
PREDICTOR = "tests/predict/test_predictor.py"
EXPORT = "tests/predict/test_export_folder.py"
MODE = "tests/predict/test_predict_mode.py"

ROBOT_MUTATIONS = {
    "occjax/metrics/calibration.py": [
        (
            "np.abs((total * centres).sum(-1) - occupied.sum(-1))",
            "((total * centres).sum(-1) - occupied.sum(-1))",
            CALIBRATION,
        ),
        ("int(np.argmin(errors))", "int(np.argmax(errors))", CALIBRATION),
    ],
    "occjax/metrics/on_device.py": [
        ("scaled = log_probs / temperature", "scaled = log_probs * temperature", CALIBRATION),
        ("- jax.nn.logsumexp(scaled, axis=-1)", "", CALIBRATION),
    ],
    "occjax/metrics/missed.py": [
        ("occupied & ~np.isin(truth, GROUND_CLASSES)", "occupied", MISSED),
        ("[:, :, 0, :2], axis=-1)", "[:, :, 0, :1], axis=-1)", MISSED),
        ("counted(truth, camera_mask)", "counted(truth)", MISSED),
    ],
    "occjax/predict/cost_map.py": [
        ("self.values.T.ravel()", "self.values.ravel()", COST_MAP),
        (" | (cost >= INSCRIBED)", " | is_obstacle", COST_MAP),
        ("[name in looking for name in rig.cameras]", "[True for name in rig.cameras]", COST_MAP),
        ("np.ones((3, 3), np.uint8))", "np.ones((1, 1), np.uint8))", COST_MAP),
        ("inside &= lens.sees[row, column]", "inside &= True", COST_MAP),
        ("rig = rig.in_frame(grid.frame)", "rig = rig", PREDICTOR),
    ],
    "occjax/predict/lens.py": [
        ("if lens.sees.mean() < _LEAST_SEEN:", "if False:", LENS),
        ("require_size(name, pinhole, size)", "pass", LENS),
    ],
    "occjax/predict/rig.py": [
        (
            'self.ego_from_lidar if frame == "lidar" else invert_rigid(self.ego_from_lidar)',
            "self.ego_from_lidar",
            RIGS,
        ),
        ("cam_from_grid=self.cam_from_grid @ old_from_new", "cam_from_grid=old_from_new @ self.cam_from_grid", RIGS),
        ("ahead, up = ego_from_lidar[0, 1], ego_from_lidar[2, 2]", "ahead = up = ego_from_lidar[2, 2]", RIGS),
        ("array = np.array(values, dtype)", "array = np.asarray(values, dtype)", RIGS),
    ],
    "occjax/predict/calibration.py": [
        ("if names.count(name) > 1:", "if False:", RIGS),
        ("if len(given) > 1:", "if False:", RIGS),
    ],
    "occjax/predict/stream.py": [
        ("yield frame, result", "yield None, result", MODE),
    ],
    "occjax/predict/predictor.py": [
        ("logits / self.temperature,", "logits,", "tests/predict/test_temperature.py"),
        ("rig.in_frame(self.grid.frame), self.input_size)", "rig, self.input_size)", PREDICTOR),
        ("covers[np.asarray(is_present)].any(0)", "covers.any(0)", PREDICTOR),
    ],
    "occjax/predict/frames.py": [
        ("if time in found:", "if False:", "tests/predict/test_frames.py"),
    ],
    "occjax/predict/export_card.py": [
        ("cv2.INTER_AREA if is_smaller else cv2.INTER_LINEAR", "cv2.INTER_LINEAR", EXPORT),
        ("*(undone if has_lenses else []),", "", EXPORT),
    ],
    "occjax/predict/export_folder.py": [
        (
            "        for name in (MANIFEST, *MODELS.values()):\n            (folder / name).unlink(missing_ok=True)\n",
            "",
            EXPORT,
        ),
    ],
    "occjax/predict/model_folder.py": [
        ("is_of_it = _CONFIG not in facts or", "is_of_it = True or", "tests/predict/test_model_folder.py"),
    ],
    "occjax/predict/exported.py": [
        ("if of_config != (", "if False and of_config != (", "tests/fuzz/test_found_runs.py"),
        ("(runnable or there)[0]", "there[0]", EXPORT),
    ],
    "occjax/system/ahead.py": [
        ("        yield from pending\n        raise", "        raise", "tests/system/test_ahead.py"),
    ],
    "occjax/run/predict.py": [
        (
            "classes = np.where(near[..., None], occupancy.classes, np.uint8(IGNORE))",
            "classes = occupancy.classes",
            MODE,
        ),
        (
            "seen_columns(rig, occupancy.grid, np.ones(occupancy.grid.shape[2], bool), cameras)",
            "seen_columns(rig, occupancy.grid, np.ones(occupancy.grid.shape[2], bool))",
            MODE,
        ),
    ],
    "occjax/drawing/top_view.py": [
        ("(-1, UNKNOWN_COLOR), (99, _TOUCHED)", "(-1, FREE_COLOR), (99, _TOUCHED)", "tests/drawing/test_pictures.py"),
    ],
}

"""The robots' part of `mutation_list.py`: calibration, what is missed, and cost maps."""

CALIBRATION = "tests/metrics/test_calibration.py"
MISSED = "tests/metrics/test_missed.py"
COST_MAP = "tests/predict/test_cost_map.py"

ROBOT_MUTATIONS = {
    "occjax/metrics/calibration.py": [
        (
            "np.abs((total * centres).sum(-1) - occupied.sum(-1))",
            "((total * centres).sum(-1) - occupied.sum(-1))",
            CALIBRATION,
        ),
        ("1 + int(np.argmin(self.nll[1:]))", "1 + int(np.argmax(self.nll[1:]))", CALIBRATION),
    ],
    "occjax/metrics/on_device.py": [
        ("scaled = log_probs / temperature", "scaled = log_probs * temperature", CALIBRATION),
        ("jnp.where(counted, likelihood, 0)", "likelihood", CALIBRATION),
        ("scaled[..., :FREE], axis=-1) - total", "scaled[..., :FREE], axis=-1)", CALIBRATION),
    ],
    "occjax/metrics/missed.py": [
        ("occupied & ~np.isin(truth, GROUND_CLASSES)", "occupied", MISSED),
        ("[:, :, 0, :2], axis=-1)", "[:, :, 0, :1], axis=-1)", MISSED),
        ("counted(truth, camera_mask)", "counted(truth)", MISSED),
    ],
    "occjax/predict/cost_map.py": [
        ("self.values.T.ravel()", "self.values.ravel()", COST_MAP),
        (" | (cost >= INSCRIBED)", " | is_obstacle", COST_MAP),
        ("if name not in looking:", "if False:", COST_MAP),
    ],
    "occjax/predict/predictor.py": [
        ("logits / self.temperature,", "logits,", "tests/predict/test_temperature.py"),
    ],
}

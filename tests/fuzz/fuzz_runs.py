"""Folders of runs and of exports, and calibration files: a sane one of each, how it is mutated, and its readers."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import yaml
from fuzz_bytes import mutate_bytes, mutate_json, mutate_tree
from fuzz_formats import mutate_headed
from fuzz_npz import mutate_npz
from tiny_state import tiny_state

from occjax.config import BackboneConfig, Config
from occjax.data.index import load_index
from occjax.data.parts import Parts
from occjax.data.pipeline import make_train_loader
from occjax.models.resnet import load_backbone_weights
from occjax.predict.calibration import read_calibration
from occjax.predict.export_folder import MANIFEST
from occjax.predict.exported import ExportedPredictor
from occjax.predict.images import NetworkInput
from occjax.predict.model_folder import read_model_folder, write_model_folder
from occjax.predict.stored_weights import Weights, read_student
from occjax.run import compare, scoring, start, workdir
from occjax.run.initialisation import said_of
from occjax.run_config import stored_initialisation
from occjax.system.mesh import make_mesh
from occjax.train.checkpoint import Checkpoints
from occjax.train.metrics_log import MetricsLog

STEP = 4
CALIBRATION = """
frame: ego
ego_from_lidar: {translation: [0.94, 0, 1.84], rotation_wxyz: [0.7071, 0, 0, -0.7071]}
cameras:
  CAM_FRONT:
    image_width: 1600
    image_height: 900
    camera_matrix: {data: [1266, 0, 816, 0, 1266, 491, 0, 0, 1]}
    distortion_model: plumb_bob
    distortion_coefficients: {data: [-0.3, 0.1, 0, 0, 0]}
    grid_from_cam: {translation: [1.70, 0.02, 1.51], rotation_wxyz: [0.5, -0.5, 0.5, -0.5]}
  CAM_LEFT:
    image_width: 800
    image_height: 600
    K: [400, 0, 400, 0, 400, 300, 0, 0, 1]
    distortion_model: equidistant
    D: [0.01, 0, 0, 0]
    cam_from_grid: {matrix: [[1, 0, 0, 0], [0, 0, -1, 1.5], [0, 1, 0, 0], [0, 0, 0, 1]]}
"""


def of_runs(folder: Path, from_file: Callable) -> dict:
    """Targets by name.

    Args:
      folder: of the fuzzer's run, with a nuScenes root in it.
      from_file: makes a target of a file, a mutation and a reader.
    """
    return {
        **_run(folder, from_file),
        **_checkpoints(folder, from_file),
        **_exports(folder / "exported", from_file),
        **_others(folder, from_file),
    }


def _root_config(folder: Path) -> Config:
    config = Config()
    config.data.root, config.data.cameras = str(folder / "nuscenes"), ("CAM_FRONT",)
    config.data.batch_size, config.data.workers = 1, 0
    return config


def _run(folder: Path, from_file: Callable) -> dict:
    """What a run keeps beside its checkpoints."""
    config, run = _root_config(folder), folder / "run"
    split = load_index(config.data).split("val")
    evaluation = run / f"eval/step-{STEP}"
    workdir.open_workdir(run, config, data=start.data_identity(config, load_index(config.data)))
    (run / f"checkpoints/{STEP}").mkdir(parents=True)
    (run / f"checkpoints/{STEP}/_CHECKPOINT_METADATA").touch()
    log = MetricsLog(run, 0)
    for step in (2, 4):
        log.write(step, "train", {"loss": 1.5})
    log.write(4, "validation", {"miou": 20.0})
    log.close()
    protocol = {"protocol": "SurroundOcc", "mask": "none", "grid": str(config.grid.build()), "miou": 20.0, "iou": 30.0}
    results = {
        **{"subject": "student", "step": STEP, "weights": "ema", "split": split.name, "samples": len(split)},
        **{"split_samples": len(split), "protocols": [{**protocol, "bev_miou": 5.0, "miou_present": 9.0}]},
        **{"initialisation": {"kind": "random", "file": "", "sha256": ""}, "teacher_agreement": None},
        **{"occupancy_calibration_error": 3.0, "versions": {}},
    }
    evaluation.mkdir(parents=True)
    (evaluation / "metrics.json").write_text(json.dumps(results))
    (evaluation / "table.txt").write_text("a table")
    config.eval.pictures = 0

    def scores() -> None:
        found = scoring.completed_evaluation(evaluation, config.eval, split, STEP)
        if found is not None:
            json.dumps(found.scalars), found.summary(run)
        with mock.patch.object(compare, "prior_scores", lambda config: {}):
            compare.compare({"it": [run]})

    def configuration() -> None:
        said_of(stored_initialisation(run))
        start._require_same_data(run, start.data_identity(config, load_index(config.data)), allow_other=False)
        workdir.require_same_configuration(run, config)

    return {
        "metrics.json": from_file(evaluation / "metrics.json", mutate_json, scores),
        "config.json of a run": from_file(run / "config.json", mutate_json, configuration),
        "log of a run": from_file(run / "log.jsonl", _mutate_lines, lambda: _resumed_log(run), may_write=True),
    }


def _resumed_log(run: Path) -> None:
    log = MetricsLog(run, STEP)
    log.has(STEP, "validation")
    log.write(STEP + 1, "train", {"loss": 1.0})
    log.close()


def _mutate_lines(data: bytes, r: random.Random) -> bytes:
    if r.random() < 0.3:
        return mutate_bytes(data, r)
    lines = data.splitlines()
    place = r.randrange(len(lines))
    lines[place] = mutate_json(lines[place], r)
    return b"\n".join(lines) + b"\n"


def _checkpoints(folder: Path, from_file: Callable) -> dict:
    """Files of one checkpoint and of the best one; weights for prediction, and the state to train on."""
    config, run, mesh = _root_config(folder), folder / "checkpointed", make_mesh(jax.devices()[:1])
    loader = make_train_loader(config, load_index(config.data), Parts())
    saved = Checkpoints(run)
    saved.save(STEP, tiny_state(), loader.get_state())
    saved.save_best(STEP, tiny_state(), loader.get_state(), 20.0)
    saved.close()
    abstract = jax.eval_shape(tiny_state)
    student = abstract.ema

    def resume() -> None:
        opened = Checkpoints(run)
        try:
            state, position = opened.restore(abstract, mesh)
            jax.block_until_ready(state)
            loader.set_state(position)
        finally:
            opened.close()

    def predict(best: bool) -> None:
        which = {"mesh": mesh, "best": best}
        for kind in ("ema", "raw"):
            read_student(run, student["params"], student["batch_stats"], which=kind, **which)

    step = run / f"checkpoints/{STEP}"
    files = {
        "marker": (step / "_CHECKPOINT_METADATA", mutate_json, resume),
        "data position": (step / "data/metadata", mutate_json, resume),
        "tree": (step / "state/_METADATA", mutate_json, resume),
        "tree of averages": (step / "ema/_METADATA", mutate_json, lambda: predict(False)),
        "manifest": (step / "ema/manifest.ocdbt", mutate_bytes, lambda: predict(False)),
        "arrays": (max((step / "state/d").iterdir()), mutate_bytes, resume),
        "score of the best": (run / f"best/{STEP}/metrics/metrics", mutate_json, lambda: (predict(True), resume())),
    }
    # A folder that lacks what a checkpoint has is set aside, and none is made anew.
    return {f"checkpoint, {name}": from_file(*file) for name, file in files.items()}


def _exports(folder: Path, from_file: Callable) -> dict:
    """A model folder, and the manifest of an export."""
    config = Config(name="exported")
    config.grid.shape = (4, 4, 2)
    config.data.image_width, config.data.image_height = 8, 4
    arrays = {"params": {"w": np.ones((3, 2), np.float32)}, "batch_stats": {"mean": np.ones(2, np.float32)}}
    weights = Weights(*arrays.values(), STEP)
    metrics = {"protocols": [], "samples": 1, "split": "val"}
    write_model_folder(folder / "model", config, weights, initialisation=None, metrics=metrics)

    def model() -> None:
        # Of three arrays, in the place of a student.
        with mock.patch("occjax.predict.model_folder.abstract_student", lambda *_: (None, *arrays.values())):
            read_model_folder(folder / "model", config, make_mesh(jax.devices()[:1]))

    rig = read_calibration_text(folder / "rig.yaml").to_input(
        np.array([[1600, 900], [800, 600]]), np.ones(2, bool), (8, 4)
    )
    shape, classes = (1, 2, 4, 8, 3), np.zeros(config.grid.shape, np.uint8)
    (folder / "program").mkdir()
    names = ("pixel_from_cam", "cam_from_grid", "input_from_pixel")
    manifest = {
        **{"formats": {"stablehlo": {}}, "outputs": ["classes"], "input": list(shape), "step": STEP, "coverage": 0.5},
        **{"sha256": {"model.stablehlo": ""}, "grid": config.grid.build().to_dict()},
        "rig": {"cameras": ["a", "b"], "frame": "ego", **{n: np.asarray(getattr(rig, n))[0].tolist() for n in names}},
    }
    (folder / "program" / MANIFEST).write_text(json.dumps(manifest))

    def exported() -> None:
        # The program itself takes packages that are no requirement.
        with mock.patch.object(ExportedPredictor, "_runner", lambda self: lambda images: (classes,)):
            predictor = ExportedPredictor(config, folder / "program")
        predictor.warm_up(len(predictor.cameras))
        predictor.predict(NetworkInput(np.zeros(shape, np.uint8), rig)).bev()

    return {
        "exported weights": from_file(folder / "model/model.safetensors", mutate_headed, model),
        "manifest of an export": from_file(folder / "program" / MANIFEST, mutate_json, exported),
    }


def read_calibration_text(path: Path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(CALIBRATION)
    return read_calibration(path)


def _others(folder: Path, from_file: Callable) -> dict:
    calibration, weights = folder / "exported/rig.yaml", folder / "backbone.npz"
    np.savez(weights, **{"stem/w": np.ones((3, 2), np.float32), "stem/b": np.ones(2, np.float32)})
    params = {"backbone": {"stem": {"w": jnp.zeros((3, 2)), "b": jnp.zeros(2)}}}
    backbone = BackboneConfig(weights=str(weights))
    return {
        "calibration": from_file(calibration, _mutate_yaml, lambda: read_calibration(calibration)),
        "backbone weights": from_file(
            weights, mutate_npz, lambda: load_backbone_weights(backbone, params, {"backbone": {}})
        ),
    }


# Names that refer to each other: nine lists of nine, of nine.
_LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(9))
_TAGS = (
    "!!python/object/apply:os.system ['touch executed']",
    "!!binary x",
    "!!set {a, b}",
    "? [a, [b]] : c",
    "!!int x",
)


def _mutate_yaml(data: bytes, r: random.Random) -> bytes:
    kind = r.random()
    if kind < 0.3:
        return mutate_bytes(data, r)
    if kind < 0.4:
        return data.replace(r.choice((b"ego", b"1600", b"{data:", b"[1.70")), r.choice(_TAGS).encode(), 1)
    if kind < 0.5:
        return (_LAUGHS + data.decode().replace(r.choice(("ego", "1600", "[0.01, 0, 0, 0]")), "*a9")).encode()
    return yaml.safe_dump(mutate_tree(yaml.safe_load(data), r)).encode("utf-8", "surrogatepass")

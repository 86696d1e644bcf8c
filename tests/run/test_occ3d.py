"""The whole path on Occ3D's labels and grid: train, evaluate with rays, score the saved predictions by themselves."""

import pytest
from tiny_world import tiny_config

from occjax.grid import OCC3D_GRID
from occjax.metrics.folder import score_folder
from occjax.run.evaluate import evaluate_workdir
from occjax.run.scoring import Outputs
from occjax.run.train import train


@pytest.mark.slow
def test_occ3d_trains_evaluates_and_scores_the_same_from_files(world, tmp_path):
    config = tiny_config(world)
    config.data.labels, config.data.teacher_dir = "occ3d", ""
    config.loss.distill = type(config.loss.distill)()
    config.grid = type(config.grid)("ego", OCC3D_GRID.lower_m, OCC3D_GRID.voxel_size_m, OCC3D_GRID.shape)
    config.train.steps, config.train.ema_samples = 4, 2 * config.data.batch_size
    train(config, tmp_path)
    evaluation = evaluate_workdir(config, tmp_path, outputs=Outputs(save_predictions=True, rayiou=True))
    predictions = tmp_path / "eval" / "step-4" / "predictions"
    scores = score_folder(predictions, world, protocols=("occ3d", "rayiou"), split="val")
    found = [s.to_dict() for group in scores.values() for s in group]
    assert found == evaluation.results["protocols"]
    assert [s["mask"] for s in found] == ["camera mask", "no mask", "no mask"] and found[2]["protocol"] == "RayIoU"
    assert evaluation.results["samples"] == 3

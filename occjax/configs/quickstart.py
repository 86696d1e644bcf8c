"""A small student on a generated city, in minutes on two cores; `quickstart.py:supervised` is its control.

occjax --config=configs/quickstart.py --workdir=runs/quickstart

Cost: six minutes, the city and the evaluation included, on two cores of an Intel Xeon (AVX-512).

Expect, in per cent on the 12 validation keyframes (mean ± standard deviation of three seeds):

                                    mIoU           mIoU, classes present  IoU, occupied  BEV mIoU
distilled                           49.74 ± 0.28   19.58 ± 0.44           57.01 ± 0.75   17.12 ± 0.94
supervised                          49.85 ± 0.54   19.76 ± 0.87           56.07 ± 1.51   12.69 ± 0.68
most frequent class of the voxel    42.98           8.77                  36.99          10.14
"""

from occjax.config import Config
from occjax.configs import base, kd, supervised


def get_config(variant: str = "distilled") -> Config:
    """The small run, "distilled" or its control "supervised"; raises ValueError for any other variant."""
    if variant not in ("distilled", "supervised"):
        raise ValueError(f"variant must be distilled or supervised, not {variant!r}")
    config = base.get_config()
    config.name = "quickstart"
    # The middle of SurroundOcc's grid, at its resolution.
    config.grid.lower_m = (-16.0, -16.0, -3.0)
    config.grid.shape = (64, 64, 12)

    config.data.root = "data/synthetic"
    config.data.version = "v1.0-synthetic"
    config.data.teacher_dir = "data/synthetic/teacher"
    # 16:9 as the city is drawn, rounded to the feature stride.
    config.data.image_height = 96
    config.data.image_width = 176
    # Of so few samples, an update from each taught more than half as many from two (18.1 -> 19.3 over classes present).
    config.data.batch_size = 1
    config.data.workers = 1
    config.data.synthetic.enabled = True
    config.data.synthetic.train_scenes = 20
    config.data.synthetic.val_scenes = 4
    config.data.synthetic.keyframes_per_scene = 3
    config.data.synthetic.image_width = 320
    config.data.synthetic.image_height = 180

    config.augment.bev_flip_x = True
    config.augment.bev_flip_y = True
    config.augment.bev_rotate_deg = 22.5

    # Fewer layers compile sooner and leave time for more steps.
    config.model.backbone.depth = 10
    config.model.backbone.width = 32
    config.model.backbone.weights = "random"
    config.model.fpn_channels = 64
    config.model.depth.bins = 48
    # The grid's corner lies 22.6 m away; a bin is half a metre.
    config.model.depth.max_m = 24.5
    config.model.depth.channels = 64
    # 1200 samples are too few to overfit.
    config.model.depth.dropout = 0.0
    config.model.view_transform.channels = 48
    config.model.bev_encoder.stage_channels = (48, 96, 128)
    config.model.bev_encoder.blocks_per_stage = 1
    config.model.bev_encoder.neck_channels = 96
    config.model.bev_encoder.out_channels = 64
    config.model.head.channels = 64
    config.model.head.hidden = 128

    # The recipe at full size, so that the quickstart shows what it does.
    config.loss.distill = kd.get_config().loss.distill

    config.train.steps = 1200
    # Twice as much learnt less (17.1 over classes present, after 800 steps), at a batch of 2 too.
    config.train.learning_rate = 1e-3
    config.train.warmup_steps = 40
    # The last 150 updates: more would still remember the first.
    config.train.ema_samples = 150
    config.train.checkpoint_every = 400
    config.train.eval_every = 1200
    config.eval.batch_size = 2
    return config if variant == "distilled" else supervised.without_teacher(config)

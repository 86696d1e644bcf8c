"""A student for processors and small boards; `realtime.py:city` trains it on the quickstart's city.

occjax --config=configs/realtime.py --workdir=runs/realtime
occjax --config=configs/realtime.py:city --workdir=runs/realtime-city

The first line trains on nuScenes, by the recipe of kd.py: nobody has done it, and hours and scores are unknown. A step
of one sample took 4.4 s on two busy cores of an Intel Xeon (AVX-512).

Cost of the second: 10.5 minutes of processor time for its 1200 updates and the evaluation, where the quickstart takes
8.9 (one core of an AMD EPYC with AVX-512). A frame of 200 x 200 x 16 voxels takes 77 ms by ONNX Runtime and 126 MB,
47 ms in INT8 (--mode=benchmark, two such cores, with VNNI). Sizes were chosen by its profile with random weights: of
71 ms, convolutions take 26, products 16, argmax and sums 12.

Expect of the second, in per cent on the 12 validation keyframes (mean ± standard deviation of three seeds), beside the
quickstart on the same machine:

                                    mIoU           mIoU, classes present  IoU, occupied  BEV mIoU
realtime.py:city                    48.57 ± 1.31   17.71 ± 2.10           59.17 ± 2.30   15.78 ± 1.67
quickstart.py                       49.96 ± 0.45   19.94 ± 0.71           58.07 ± 1.47   16.50 ± 0.62
"""

from occjax.config import Config
from occjax.configs import kd, quickstart


def get_config(variant: str = "nuscenes") -> Config:
    """This student with the recipe of kd.py ("nuscenes"), or with the quickstart's city, grid and schedule ("city").

    Raises ValueError for any other variant.
    """
    if variant not in ("nuscenes", "city"):
        raise ValueError(f"variant must be nuscenes or city, not {variant!r}")
    config = kd.get_config() if variant == "nuscenes" else quickstart.get_config()
    config.name = "realtime"
    # A seventh of the default's pixels.
    config.data.image_height = 128
    config.data.image_width = 352

    model = config.model
    # With 18 layers convolutions took 43 to 56 ms of a frame.
    model.backbone.depth = 10
    model.backbone.width = 32
    # Nobody publishes weights of this width.
    model.backbone.weights = "random"
    model.fpn_channels = 64
    model.depth.channels = 64
    # Bins as wide as a cell of the view from above: a metre.
    model.depth.bins = round(model.depth.max_m - model.depth.min_m)
    model.view_transform.channels = 48
    model.view_transform.cell_voxels = 2
    model.bev_encoder.stage_channels = (64, 128, 256)
    model.bev_encoder.blocks_per_stage = 1
    model.bev_encoder.neck_channels = 96
    model.bev_encoder.out_channels = 64
    model.head.channels = 64
    # Of these there are 200 x 200, and what follows costs more by each of them than all before it.
    model.head.hidden = 64
    model.head.activation = "relu"
    return config

"""Our recipe at full size: nuScenes, SurroundOcc labels, distilled from GaussianFormer-2.

curl --create-dirs -o data/weights/resnet50-0676ba61.pth https://download.pytorch.org/models/resnet50-0676ba61.pth
occjax convert-weights --kind=resnet --input=data/weights/resnet50-0676ba61.pth --output=data/weights/resnet50.npz
occjax convert-teacher --input=out/dump --output=data/teacher --data-root=data/nuscenes
occjax --mode=doctor --config=configs/kd.py
occjax --config=configs/kd.py --workdir=runs/kd

Cost: a training step of one sample took 7.3 s on two cores of an AMD EPYC (AVX-512), in version 0.1.0 with 88 depth
bins; 24 epochs of 28,130 samples want GPUs, and on one nothing has been measured: hours are unknown. Memory, by the
shapes that the backward pass keeps with 88 bins (bfloat16, which is what accelerators compute in; workspace comes on
top): 1.0 GiB and 3.5 GiB for each sample, 1.6 with model.remat_backbone. So 24 GB hold a batch of 4, and 80 GB one of
16, for which train.learning_rate=4e-4. In float32, on a CPU, a sample takes 6.1 GiB: --config.data.batch_size=1.

BatchNorm at batch 1, measured with the quickstart's student after 300 updates of one sample: losses under batch and
running statistics 18.2 and 18.0; of all layers' means the stem's is furthest from its running one (0.21 standard
deviations, by the weather), ASPP's pooled branch, with six numbers to a channel, is 0.06 away and wrong by 1.4 in the
variance of a single batch: noise, which its running variance averages out. So no layer is normalised otherwise, and
accumulating micro-batches of 1 is sound (tests/train/test_batch_statistics.py).

Expect: no model has been trained on the whole of nuScenes yet, so there is no table; configs/supervised.py is what to
compare with.
"""

from occjax.config import Config
from occjax.configs import base


def get_config() -> Config:
    config = base.get_config()
    config.name = "kd"
    config.data.teacher_dir = "data/teacher"
    # What 24 GB hold, by the sum given above. BatchNorm sees four scenes at once, which one per step denies it.
    config.data.batch_size = 4
    # Trained on ImageNet: the first two commands above.
    config.model.backbone.weights = "data/weights/resnet50.npz"
    # BEVDet's ranges.
    config.augment.image_scale = (0.94, 1.11)
    config.augment.image_rotate_deg = 5.4
    config.augment.image_flip = True
    config.augment.bev_rotate_deg = 22.5
    config.augment.bev_scale = (0.95, 1.05)
    config.augment.bev_flip_x = True
    config.augment.bev_flip_y = True
    config.loss.distill.voxel_kl = 3.0
    config.loss.distill.bev_kl = 1.0
    config.loss.distill.channel_wise = 1.0
    config.loss.distill.bev_feature = 0.1
    # 1e-4 for one sample per step, times the root of the batch, as Adam's noise wants it.
    config.train.learning_rate = 2e-4
    return config

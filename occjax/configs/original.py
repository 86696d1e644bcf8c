"""Architecture and recipe of the PyTorch original (54.37 M parameters), for imported weights and for comparison.

occjax convert-weights --kind=student --input=latest.pth --workdir=runs/imported
occjax --mode=eval --workdir=runs/imported

Cost, float32, batch 1, of two cores of an AMD EPYC (AVX-512), by `python tests/parity/benchmark_torch.py`: forward pass
1.8 s on one machine and 3.5 s on another, training step with all losses 6.3 and 11.8 s, 5.4 GiB of memory for the
process. Hours on a GPU are unknown.

Expect: the original's own predictions (argmax agreement 99.9998 %, logits within 3.2e-5 on a real keyframe). Trained
from scratch: unknown.
"""

from occjax.config import Config
from occjax.configs import base


def get_config() -> Config:
    config = base.get_config()
    config.name = "original"
    # Imported weights come as a checkpoint; trained from scratch, it starts from nothing.
    config.model.backbone.weights = "random"
    # The original trains so.
    config.model.backbone.frozen_stages = 2
    config.model.backbone.frozen_batch_norm = True
    # The original computes so, and imported weights are compared with it.
    config.model.compute_dtype = "float32"
    config.model.depth.max_m = 45.0
    config.model.depth.bins = 16
    # Imported weights bring the running statistics that their camera numbers were normalised by.
    config.model.depth.camera_norm = "batch"
    # Divides depth confidence out again; ours keeps it.
    config.model.view_transform.splat = "mean"
    config.loss.scene_class_affinity = 0.0
    config.loss.lovasz = 0.0
    # Whatever labels it trains on.
    config.loss.class_counts = "occ3d"
    config.loss.distill.voxel_kl = 1.0
    config.loss.distill.bev_kl = 0.5
    config.data.teacher_dir = "data/teacher"
    config.train.epochs = 12
    config.train.learning_rate = 1e-4
    return config

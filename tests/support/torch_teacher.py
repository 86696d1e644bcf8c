"""The teacher's image backbone in eager PyTorch: the yardstick for ours, written from the papers."""

import torch
import torch.nn.functional as F
from torchvision.ops import deform_conv2d

BLOCKS = (3, 4, 23, 3)


class TorchBackbone:
    """ResNet-101 with deformable convolutions in its last two stages; weights by the checkpoint's names."""

    def __init__(self, arrays, prefix):
        # A copy: what numpy broadcasts or maps, torch cannot read.
        self.weights = {
            key.removeprefix(prefix): torch.tensor(value) for key, value in arrays.items() if key.startswith(prefix)
        }

    def norm(self, name, x):
        w = self.weights
        mean, variance = w[f"{name}.running_mean"], w[f"{name}.running_var"]
        return F.batch_norm(x, mean, variance, w[f"{name}.weight"], w[f"{name}.bias"], training=False)

    def conv(self, name, x, **options):
        return F.conv2d(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"), **options)

    def middle(self, name, x):
        if f"{name}.conv_offset.weight" not in self.weights:
            return self.conv(name, x, padding=1)
        placement = self.conv(f"{name}.conv_offset", x, padding=1)
        weight = self.weights[f"{name}.weight"]
        return deform_conv2d(x, placement[:, :18], weight, padding=1, mask=placement[:, 18:].sigmoid())

    def block(self, name, x, stride):
        y = self.norm(f"{name}.bn1", self.conv(f"{name}.conv1", x, stride=stride)).relu_()
        y = self.norm(f"{name}.bn2", self.middle(f"{name}.conv2", y)).relu_()
        y = self.norm(f"{name}.bn3", self.conv(f"{name}.conv3", y))
        if f"{name}.downsample.0.weight" in self.weights:
            x = self.norm(f"{name}.downsample.1", self.conv(f"{name}.downsample.0", x, stride=stride))
        return (y + x).relu_()

    @torch.inference_mode()
    def __call__(self, x):
        """C2 to C5 of normalised images [B, 3, H, W]."""
        x = F.max_pool2d(self.norm("bn1", self.conv("conv1", x, stride=2, padding=3)).relu_(), 3, 2, 1)
        features = []
        for stage, blocks in enumerate(BLOCKS):
            for block in range(blocks):
                x = self.block(f"layer{stage + 1}.{block}", x, 2 if stage > 0 and block == 0 else 1)
            features.append(x)
        return features

"""Image backbone and pyramid of the PyTorch yardstick, and the blocks that its BEV encoder shares."""

import torch.nn.functional as F
from torch import nn


def conv_norm(c_in, c_out, size, *, stride=1, dilation=1, relu=True):
    pad = dilation * (size // 2)
    layers = [nn.Conv2d(c_in, c_out, size, stride, pad, dilation, bias=False), nn.BatchNorm2d(c_out)]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)


class Residual(nn.Module):
    """Bottleneck (three convolutions, x4 wide) or basic block (two)."""

    def __init__(self, c_in, width, *, stride=1, bottleneck=False, shortcut_size=1):
        super().__init__()
        c_out = width * 4 if bottleneck else width
        sizes = ((c_in, width, 1, 1), (width, width, 3, stride), (width, c_out, 1, 1))
        if not bottleneck:
            sizes = ((c_in, width, 3, stride), (width, width, 3, 1))
        self.count = len(sizes)
        for i, (a, b, size, s) in enumerate(sizes, start=1):
            setattr(self, f"conv{i}", nn.Conv2d(a, b, size, s, size // 2, bias=False))
            setattr(self, f"bn{i}", nn.BatchNorm2d(b))
        if stride != 1 or c_in != c_out:
            self.downsample = conv_norm(c_in, c_out, shortcut_size, stride=stride, relu=False)

    def forward(self, x):
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = F.relu(y) if i < self.count else y
        return F.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class ResNet(nn.Module):
    def __init__(self, depth=50, width=64):
        super().__init__()
        blocks = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}[depth]
        self.stem = conv_norm(3, width, 7, stride=2)
        c_in, bottleneck = width, depth == 50
        for i, count in enumerate(blocks):
            stage = []
            for block in range(count):
                stride = 2 if block == 0 and i > 0 else 1
                stage.append(Residual(c_in, width * 2**i, stride=stride, bottleneck=bottleneck))
                c_in = width * 2**i * (4 if bottleneck else 1)
            setattr(self, f"layer{i + 1}", nn.Sequential(*stage))

    def forward(self, x):
        x = F.max_pool2d(self.stem(x), 3, 2, 1)
        features = []
        for i in range(1, 5):
            x = getattr(self, f"layer{i}")(x)
            features.append(x)
        return features


class FPN(nn.Module):
    def __init__(self, in_channels, channels):
        super().__init__()
        self.lateral_convs = nn.ModuleList([nn.Conv2d(c, channels, 1) for c in in_channels])
        self.fpn_convs = nn.ModuleList([nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels])

    def forward(self, features):
        merged = [conv(x) for conv, x in zip(self.lateral_convs, features, strict=True)]
        for i in range(len(merged) - 1, 0, -1):
            merged[i - 1] = merged[i - 1] + F.interpolate(merged[i], size=merged[i - 1].shape[2:], mode="nearest")
        return [conv(x) for conv, x in zip(self.fpn_convs, merged, strict=True)]

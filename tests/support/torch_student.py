"""The original student in plain eager PyTorch, written from its description: the yardstick for parity and for speed.

Entry names follow the original's state_dict. BEV maps are [B, C, rows = y, columns = x], as there.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch_backbone import FPN, Residual, ResNet, conv_norm


class Mlp(nn.Module):
    def __init__(self, c_in, channels):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(c_in, channels), nn.Linear(channels, channels)

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(x)))


class Gate(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv_reduce, self.conv_expand = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, x, vector):
        return x * torch.sigmoid(self.conv_expand(F.relu(self.conv_reduce(vector[:, :, None, None]))))


class AsppBranch(nn.Module):
    def __init__(self, channels, size, dilation):
        super().__init__()
        pad = dilation * (size // 2)
        self.atrous_conv = nn.Conv2d(channels, channels, size, padding=pad, dilation=dilation, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x):
        return F.relu(self.bn(self.atrous_conv(x)))


class Aspp(nn.Module):
    def __init__(self, channels, dropout):
        super().__init__()
        for i, (size, dilation) in enumerate(((1, 1), (3, 6), (3, 12), (3, 18)), start=1):
            setattr(self, f"aspp{i}", AsppBranch(channels, size, dilation))
        self.global_avg_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), *conv_norm(channels, channels, 1))
        self.conv1, self.bn1 = nn.Conv2d(channels * 5, channels, 1, bias=False), nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        parts = [getattr(self, f"aspp{i}")(x) for i in range(1, 5)]
        parts.append(self.global_avg_pool(x).expand(-1, -1, *x.shape[2:]))
        return self.dropout(F.relu(self.bn1(self.conv1(torch.cat(parts, 1)))))


class Dcn(nn.Module):
    """Where a deformable convolution is missing the original falls back to a plain one."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x):
        return self.conv(x)


class DepthNet(nn.Module):
    def __init__(self, c_in, channels, context, bins, dropout):
        super().__init__()
        self.reduce_conv = conv_norm(c_in, channels, 3)
        self.context_conv = nn.Conv2d(channels, context, 1)
        self.bn = nn.BatchNorm1d(27)
        self.depth_mlp, self.depth_se = Mlp(27, channels), Gate(channels)
        self.context_mlp, self.context_se = Mlp(27, channels), Gate(channels)
        self.depth_conv_layers = nn.Sequential(*[Residual(channels, channels) for _ in range(3)])
        self.aspp = Aspp(channels, dropout)
        self.dcn = Dcn(channels)
        self.depth_out = nn.Conv2d(channels, bins, 1)

    def forward(self, x, camera):
        camera = self.bn(camera)
        x = self.reduce_conv(x)
        context = self.context_conv(self.context_se(x, self.context_mlp(camera)))
        depth = self.depth_conv_layers(self.depth_se(x, self.depth_mlp(camera)))
        return self.depth_out(self.dcn(self.aspp(depth))), context


class ViewTransform(nn.Module):
    def __init__(self, config, grid):
        super().__init__()
        depth, channels = config.depth, config.view_transform.channels
        self.grid, self.mean = grid, config.view_transform.splat == "mean"
        self.depthnet = DepthNet(config.fpn_channels, depth.channels, channels, depth.bins, depth.dropout)
        self.bev_refine = nn.Conv2d(channels, channels, 3, padding=1)
        step = (depth.max_m - depth.min_m) / depth.bins
        self.centers = depth.min_m + (torch.arange(depth.bins) + 0.5) * step

    def points(self, rig, image_size, feature_size):
        """Grid-frame position of every lifted point, [B, N, D, h, w, 3]."""
        (height, width), (h, w) = image_size, feature_size
        v, u = torch.meshgrid((torch.arange(h) + 0.5) * height / h, (torch.arange(w) + 0.5) * width / w, indexing="ij")
        pixels = torch.stack([u, v], -1)
        affine = rig["input_from_pixel"]
        shift, linear = affine[:, :, None, None, :2, 2], affine[:, :, None, None, :2, :2]
        pixels = (torch.inverse(linear) @ (pixels - shift)[..., None])[..., 0]
        k = rig["pixel_from_cam"][:, :, None, None]
        rays = torch.stack(
            [
                (pixels[..., 0] - k[..., 0, 2]) / (k[..., 0, 0] + 1e-6),
                (pixels[..., 1] - k[..., 1, 2]) / (k[..., 1, 1] + 1e-6),
                torch.ones_like(pixels[..., 0]),
            ],
            -1,
        )
        cam = rays[:, :, None] * self.centers[:, None, None, None]
        transform = rig["cam_from_grid"][:, :, None, None, None]
        rotation = torch.inverse(transform[..., :3, :3])
        points = (rotation @ (cam - transform[..., :3, 3])[..., None])[..., 0]
        bev = rig["augmented_from_grid"][:, None, None, None, None]
        return (bev @ points[..., None])[..., 0]

    def camera_vector(self, rig):
        k, a, bev = rig["pixel_from_cam"], rig["input_from_pixel"], rig["augmented_from_grid"]
        inverse = torch.inverse(rig["cam_from_grid"])[..., :3, :].flatten(2)
        intrinsics = torch.stack([k[..., 0, 0], k[..., 1, 1], k[..., 0, 2], k[..., 1, 2]], -1)
        bev = torch.stack([bev[:, 0, 0], bev[:, 0, 1], bev[:, 1, 0], bev[:, 1, 1], bev[:, 2, 2]], -1)
        bev = bev[:, None].expand(-1, k.shape[1], -1)
        return torch.cat([intrinsics, a[..., :2, :].flatten(2), bev, inverse], -1).flatten(0, 1)

    def forward(self, features, rig, image_size):
        b, n = rig["pixel_from_cam"].shape[:2]
        # The rig stays float32 in a student of float64 too: its points fall into the same cells.
        logits, context = self.depthnet(features, self.camera_vector(rig).to(features.dtype))
        h, w = logits.shape[2:]
        probs = logits.softmax(1).view(b, n, -1, h, w)
        context = context.view(b, n, -1, h, w)
        points = self.points(rig, image_size, (h, w))
        (size_x, size_y), lower, voxel = self.grid.shape[:2], self.grid.lower_m, self.grid.voxel_size_m
        ix = torch.floor((points[..., 0] - lower[0]) / voxel).long()
        iy = torch.floor((points[..., 1] - lower[1]) / voxel).long()
        inside = (ix >= 0) & (ix < size_x) & (iy >= 0) & (iy < size_y) & rig["is_present"][..., None, None, None]
        values = (probs[:, :, :, None] * context[:, :, None]).permute(0, 1, 2, 4, 5, 3)  # B N D h w C
        bev = []
        for i in range(b):
            keep = inside[i]
            cell = (iy[i] * size_x + ix[i])[keep]
            total = values.new_zeros(size_x * size_y, values.shape[-1]).index_add(0, cell, values[i][keep])
            if self.mean:
                mass = probs.new_zeros(size_x * size_y).index_add(0, cell, probs[i][keep])
                total = total / (mass[:, None] + 1e-6)
            bev.append(total.T.reshape(-1, size_y, size_x))
        return self.bev_refine(torch.stack(bev)), logits.view(b, n, -1, h, w)


class BevEncoder(nn.Module):
    def __init__(self, c_in, config):
        super().__init__()
        layers = []
        for channels in config.stage_channels:
            stage = [Residual(c_in, channels, stride=2, shortcut_size=3)]
            stage += [Residual(channels, channels) for _ in range(config.blocks_per_stage - 1)]
            layers.append(nn.Sequential(*stage))
            c_in = channels
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        outputs = []
        for layer in self.layers:
            x = layer(x)
            outputs.append(x)
        return outputs


class BevNeck(nn.Module):
    def __init__(self, config, size):
        super().__init__()
        joined, channels = config.stage_channels[0] + config.stage_channels[-1], config.neck_channels
        self.conv = nn.Sequential(*conv_norm(joined, channels, 3), *conv_norm(channels, channels, 3))
        self.up2 = nn.Sequential(
            nn.Upsample(size=size, mode="bilinear", align_corners=True),
            *conv_norm(channels, config.out_channels, 3),
            nn.Conv2d(config.out_channels, config.out_channels, 1),
        )

    def forward(self, fine, coarse):
        coarse = F.interpolate(coarse, size=fine.shape[2:], mode="bilinear", align_corners=True)
        return self.up2(self.conv(torch.cat([fine, coarse], 1)))


class ConvModule(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, padding=1)

    def forward(self, x):
        return F.relu(self.conv(x))


class Head(nn.Module):
    def __init__(self, c_in, config, heights, classes=18):
        super().__init__()
        self.shape = heights, classes
        self.final_conv = ConvModule(c_in, config.channels)
        out = nn.Linear(config.hidden, heights * classes)
        self.predicter = nn.Sequential(nn.Linear(config.channels, config.hidden), nn.Softplus(), out)

    def forward(self, x):
        x = self.final_conv(x).permute(0, 3, 2, 1)  # [B, X, Y, C]
        return self.predicter(x).unflatten(-1, self.shape)


class TorchStudent(nn.Module):
    """`config` is occjax's ModelConfig, `grid` its VoxelGrid; images are [B, N, 3, H, W], the rig a dict of tensors."""

    def __init__(self, config, grid):
        super().__init__()
        self.config = config
        width = config.backbone.width
        expansion = 4 if config.backbone.depth == 50 else 1
        self.backbone = ResNet(config.backbone.depth, width)
        self.neck = FPN([width * expansion * 2**i for i in range(4)], config.fpn_channels)
        self.vt = ViewTransform(config, grid)
        self.bev_encoder = BevEncoder(config.view_transform.channels, config.bev_encoder)
        self.bev_neck = BevNeck(config.bev_encoder, (grid.shape[1], grid.shape[0]))
        self.head = Head(config.bev_encoder.out_channels, config.head, grid.shape[2])

    def train(self, mode=True):
        """Training mode with the frozen parts of the backbone kept in evaluation."""
        super().train(mode)
        backbone, frozen = self.config.backbone, self.config.backbone.frozen_stages
        parts = [getattr(self.backbone, name) for name in ("stem", "layer1", "layer2", "layer3", "layer4")]
        for part in parts[:frozen]:
            part.requires_grad_(False)
        for part in parts if backbone.frozen_batch_norm else parts[:frozen]:
            part.eval()
        return self

    def forward(self, images, rig):
        """Voxel logits [B, X, Y, Z, K], depth logits [B, N, D, h, w], lifted and BEV features [B, C, y, x]."""
        features = self.neck(self.backbone(images.flatten(0, 1)))[2]
        lifted, depth_logits = self.vt(features, rig, images.shape[-2:])
        stages = self.bev_encoder(lifted)
        bev = self.bev_neck(stages[0], stages[-1])
        return self.head(bev), depth_logits, lifted, bev

"""Scores as a table for people: protocol, mask and grid in the heading, per cent in the columns."""

import math

from occjax.metrics.scores import Scores

_SUMMARY_NAMES = {
    "miou": "mIoU",
    "miou_present": "mIoU, classes present",
    "iou": "IoU, occupied",
    "dynamic_miou": "mIoU, dynamic",
    "static_miou": "mIoU, static",
    "bev_miou": "BEV mIoU",
    "bev_iou": "BEV IoU, occupied",
}
# Published numbers, comparable on the nuScenes validation split at the protocol's full grid only.
PUBLISHED = {
    ("SurroundOcc mIoU/IoU", "truth 0 left out"): (
        "GaussianFormer-2 mIoU 20.04-20.33 (6,400-25,600 Gaussians)",
        "GaussianFormer mIoU 19.1",
        "SurroundOcc mIoU 20.30, IoU 31.49",
    ),
    ("Occ3D-nuScenes mIoU", "camera mask"): (
        "FlashOCC-M1 R50 mIoU 32.08 (detection checkpoint; 29.7-30.1 from ImageNet)",
        "FlashOCC-M1 R50 mIoU 18.3 when trained without the camera mask",
    ),
    ("RayIoU", "no mask"): ("Panoptic-FlashOcc 1f RayIoU 34.9",),
}
VALIDATION_SAMPLES = 6019


def published_lines(scores: Scores, full_grid: str) -> list[str]:
    """Published results to place `scores` beside; none unless split and grid are the published ones."""
    if scores.samples != VALIDATION_SAMPLES or scores.grid != full_grid:
        return []
    return [f"  published: {line}" for line in PUBLISHED.get((scores.protocol, scores.mask), ())]


def format_table(columns: list[tuple[str, Scores]], *, about: str, remarks: list[str]) -> str:
    """One table of scores that share a protocol and a grid.

    Args:
      columns: heading and scores of each column; the mask is added to the heading.
      about: what was evaluated, e.g. "split val, ema weights of step 300".
      remarks: lines below the table.
    """
    first = columns[0][1]
    headings = [f"{name}, {scores.mask}" for name, scores in columns]
    widths = [max(len(heading), 8) + 3 for heading in headings]
    lines = [f"{first.protocol} | {first.grid}", f"{about}, {first.samples} samples; per cent", ""]
    lines.append(f"{'':24}" + "".join(f"{h:>{w}}" for h, w in zip(headings, widths, strict=True)))
    rows = [(name, [s.per_class.get(name, math.nan) for _, s in columns]) for name in first.per_class]
    rows += [(None, [])]
    rows += [
        (_SUMMARY_NAMES.get(name, name), [s.summary.get(name, math.nan) for _, s in columns]) for name in first.summary
    ]
    for name, values in rows:
        cells = "".join(f"{_cell(v):>{w}}" for v, w in zip(values, widths, strict=False))
        lines.append(f"{name:24}{cells}" if name else "")
    return "\n".join([*lines, *remarks])


def _cell(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.2f}"

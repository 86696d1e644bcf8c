"""Report of scores: a table with protocol, mask and grid in its heading for people, metrics.json for programs."""

import math

from occjax.grid import OCC3D_GRID, SURROUNDOCC_GRID
from occjax.metrics.combined import CombinedScores
from occjax.metrics.missed import RANGES_M
from occjax.metrics.scores import Scores, percent

_SUMMARY_NAMES = {
    "miou": "mIoU",
    "miou_present": "mIoU, classes present",
    "iou": "IoU, occupied",
    "dynamic_miou": "mIoU, dynamic",
    "static_miou": "mIoU, static",
    "bev_miou": "BEV mIoU",
    "bev_iou": "BEV IoU, occupied",
    "rayiou": "RayIoU",
    "rayiou@1": "RayIoU at 1 m",
    "rayiou@2": "RayIoU at 2 m",
    "rayiou@4": "RayIoU at 4 m",
}
# By protocol and mask: the grid and lines to print. Only results on the same voxels of the same samples compare.
_PUBLISHED = {
    ("SurroundOcc mIoU/IoU", "truth 0 left out"): (
        SURROUNDOCC_GRID,
        "GaussianFormer-2 mIoU 20.04 to 20.33 (6,400 to 25,600 Gaussians)",
        "GaussianFormer mIoU 19.1",
        "SurroundOcc mIoU 20.30, IoU 31.49",
    ),
    ("Occ3D-nuScenes mIoU", "camera mask"): (
        OCC3D_GRID,
        "FlashOCC-M1 R50 mIoU 32.08 (from a detection checkpoint; 29.7 to 30.1 from ImageNet only)",
        "FlashOCC-M1 R50 mIoU 18.3 without the camera mask",
    ),
    ("RayIoU", "no mask"): (
        OCC3D_GRID,
        "Panoptic-FlashOcc 1f RayIoU 34.9",
    ),
}
_VALIDATION_SAMPLES = 6019  # keyframes of nuScenes' 150 validation scenes


def published_lines(scores: Scores) -> list[str]:
    """Published results to place `scores` beside; none unless number of samples and grid are the published ones."""
    grid, *lines = _PUBLISHED.get((scores.protocol, scores.mask), (None,))
    is_comparable = scores.samples == _VALIDATION_SAMPLES and scores.grid == str(grid)
    return [f"  published: {line}" for line in lines if is_comparable]


def remarks_of(scores: Scores) -> list[str]:
    """Lines to print below the table of `scores`: published results, and what a reader has to know."""
    return [*published_lines(scores), *([f"  {scores.remark}"] if scores.remark else [])]


def format_table(columns: list[tuple[str, Scores]], *, about: str, remarks: list[str]) -> str:
    """One table of scores that share a protocol and a grid; a dash stands where a score is undefined.

    Args:
      columns: heading and scores of each column; the mask is added to the heading. The first names the rows.
      about: what was evaluated, e.g. "split val, ema weights of step 300".
      remarks: lines below the table.
    """
    first = columns[0][1]
    headings = [f"{name}, {scores.mask}" for name, scores in columns]
    widths = [max(len(heading), 8) + 3 for heading in headings]
    samples = f"{first.samples} sample{'' if first.samples == 1 else 's'}"
    lines = [f"{first.protocol} | {first.grid}", f"{about}, {samples}; per cent", ""]
    lines.append(f"{'':24}" + "".join(f"{h:>{w}}" for h, w in zip(headings, widths, strict=True)))
    for name in first.per_class:
        lines.append(_row(name, [s.per_class[name] for _, s in columns], widths))
    lines.append("")
    # A class without truth counts as 100 in SurroundOcc's mean: where there is one, the mean of the others comes first.
    names = sorted(first.summary, key=lambda name: name != "miou_present" or _is_same(first.summary))
    for name in names:
        # Agreement has shares by class only.
        lines.append(_row(_SUMMARY_NAMES[name], [s.summary.get(name, math.nan) for _, s in columns], widths))
    return "\n".join([*lines, *remarks])


def _is_same(summary: dict[str, float]) -> bool:
    return summary["miou_present"] == summary.get("miou")


def full_table(state: CombinedScores, *, heading: str, about: str) -> str:
    """Every score of a pass, in one or two tables; `heading` says whose predictions they are."""
    scores = state.predictions.compute()
    columns = [(heading, s) for s in scores]
    if state.teacher.samples:
        columns.append(("teacher", state.teacher.compute()[0]))
        # A column by the teacher's class: on its voxels, whatever the truth is there.
        shares = state.agreement.share_per_class()
        columns.append(("agreement", scores[0]._replace(mask="teacher's voxels", summary={}, per_class=shares)))
    remarks = remarks_of(scores[0])
    if state.calibration.counts.any():
        error = percent(state.calibration.compute())
        remarks.append(f"  expected calibration error of occupancy: {_text(error)} %")
        if (best := state.calibration.best()) is not None:
            after = _text(best["occupancy_calibration_error"])
            remarks[-1] += f", at temperature {best['value']:.3f}: {after} %"
    occupied, obstacles = ([_text(share) for share in shares.values()] for shares in state.missed.compute().values())
    within = " and ".join(f"{range_m}" for range_m in RANGES_M)
    remarks.append(
        f"  called free within {within} m of the vehicle: {' and '.join(occupied)} % of the occupied voxels, "
        f"{' and '.join(obstacles)} % of obstacles (no ground)"
    )
    if state.teacher.samples:
        agreement = state.agreement.compute()
        remarks.append(
            f"  agreement with the teacher: {_text(agreement['same_class_occupied'])} % of the voxels that it calls "
            f"occupied; KL to it {_text(agreement['kl_nats'], 4)} nats per voxel"
        )
    tables = [format_table(columns, about=about, remarks=remarks)]
    if state.rayiou is not None:
        (rays,) = state.rayiou.compute()
        tables.append(format_table([(heading, rays)], about=about, remarks=remarks_of(rays)))
    return "\n\n".join(tables)


def results_dict(state: CombinedScores) -> dict:
    """The scores as they stand in metrics.json: shares in per cent, None where undefined."""
    has_teacher = state.teacher.samples > 0
    rays = [] if state.rayiou is None else state.rayiou.compute()
    has_calibration = bool(state.calibration.counts.any())
    return {
        "samples": state.predictions.samples,
        "protocols": [s.to_dict() for s in [*state.predictions.compute(), *rays]],
        "teacher_protocols": [s.to_dict() for s in state.teacher.compute()] if has_teacher else [],
        "occupancy_calibration_error": percent(state.calibration.compute()) if has_calibration else None,
        "temperature": state.calibration.best(),
        "called_free": state.missed.compute(),
        "teacher_agreement": state.agreement.compute() if has_teacher else None,
    }


def _row(name: str, shares: list[float], widths: list[int]) -> str:
    cells = ("-" if math.isnan(share) else f"{100 * share:.2f}" for share in shares)
    return f"{name:24}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _text(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"

"""Teacher files on disk, dense or compact: one plain .npz per sample token, and a manifest per folder."""

import json
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from occjax.classes import CLASS_NAMES, NUM_CLASSES
from occjax.errors import DataError, SampleError
from occjax.grid import VoxelGrid
from occjax.npz import read_npz
from occjax.storage import write_json, writing
from occjax.targets.codec import encode_rows, floored_log_probs, kl_divergence
from occjax.targets.file_checks import MOST_VOXELS, require_sound
from occjax.types import BevCodes, TeacherTargets, VoxelCodes

MANIFEST_NAME = "manifest.json"
SCHEMA = "occjax-teacher"
# Raise it when older readers would misread a file; they refuse what they do not know.
SCHEMA_VERSION = 1

# A voxel gets a row of its own if p_occupied exceeds the largest of these that keeps the mean KL of all others to
# their shared background below the budget (nats per voxel of the grid).
ACTIVE_THRESHOLDS = (0.02, 0.01, 3e-3, 1e-3)
BACKGROUND_KL_BUDGET = 3e-5


class TeacherFileError(SampleError):
    """A teacher file or folder is absent, damaged or not what it claims to be."""


class SparseTeacher(NamedTuple):
    """Teacher probabilities with all plainly free voxels folded into one distribution.

    Attributes:
      index: int32 [M] flat voxel index, ascending.
      rows: float32 [M, K] probabilities of those voxels, free last.
      background: float32 [K] mean probabilities of all other voxels.
    """

    index: np.ndarray
    rows: np.ndarray
    background: np.ndarray


class DenseTeacher(NamedTuple):
    """The canonical content: float16 log-probabilities [X, Y, Z, K] and [X, Y, K], either may be None.

    `valid` is bool [X, Y, Z] or None (everywhere).
    """

    token: str
    grid: VoxelGrid
    voxel_logits: np.ndarray | None
    bev_logits: np.ndarray | None
    valid: np.ndarray | None


class CompactTeacher(NamedTuple):
    """The same in codes, on the file's grid, with as many rows as there are active voxels."""

    token: str
    grid: VoxelGrid
    codes: TeacherTargets


def sparse_from_probabilities(probabilities: np.ndarray) -> SparseTeacher:
    """Folds the plainly free voxels of probabilities [..., K] (float, free last) into their mean."""
    flat = probabilities.reshape(-1, probabilities.shape[-1])
    index = np.flatnonzero(1 - flat[:, -1] > ACTIVE_THRESHOLDS[-1]).astype(np.int32)
    rows = flat[index].astype(np.float32)
    rest = len(flat) - len(index)
    # Σ all − Σ rows in float64: the many free voxels would lose their last digits in float32.
    background = (flat.sum(0, dtype=np.float64) - rows.sum(0, dtype=np.float64)) / max(rest, 1)
    # No voxel is left to share it; it must still be a distribution.
    if rest == 0:
        background[-1] = 1
    return prune(SparseTeacher(index, rows, np.maximum(background, 0).astype(np.float32)), len(flat))


def prune(sparse: SparseTeacher, num_voxels: int) -> SparseTeacher:
    """Drops rows into the background as far as the KL budget allows; the background stays the mean of its voxels."""
    occupied = 1 - sparse.rows[:, -1]
    rest = num_voxels - len(sparse.index)
    for threshold in ACTIVE_THRESHOLDS:
        dropped = occupied <= threshold
        rows = sparse.rows[dropped]
        total = rest + len(rows)
        if total == 0:
            return sparse
        background = (sparse.background.astype(np.float64) * rest + rows.sum(0, dtype=np.float64)) / total
        log_background = floored_log_probs(background)
        kl = kl_divergence(floored_log_probs(rows), log_background).sum()
        kl += rest * kl_divergence(floored_log_probs(sparse.background), log_background)
        # The largest threshold that the budget allows; the last is taken even beyond it.
        if kl / num_voxels <= BACKGROUND_KL_BUDGET or threshold == ACTIVE_THRESHOLDS[-1]:
            break
    if dropped.any():
        # Class by class where rows are stored so: several times as fast as by rows.
        rows = np.compress(~dropped, sparse.rows.T, axis=1).T
        sparse = SparseTeacher(sparse.index[~dropped], rows, background.astype(np.float32))
    return sparse


def compact_teacher(
    token: str,
    grid: VoxelGrid,
    sparse: SparseTeacher | None,
    bev_probabilities: np.ndarray | None = None,
    valid: np.ndarray | None = None,
) -> CompactTeacher:
    """Codes of one sample.

    Args:
      token: the sample's token.
      grid: grid of the voxels.
      sparse: probabilities over the grid's voxels, or None (BEV only).
      bev_probabilities: float [X, Y, K] of a BEV map of its own; None leaves it to the column rule.
      valid: bool [X, Y, Z] voxels that the teacher knows; None = all.
    """
    voxels = bev = None
    if sparse is not None:
        free, levels = encode_rows(sparse.rows)
        voxels = VoxelCodes(sparse.index, free, levels, floored_log_probs(sparse.background), _bits(valid))
    if bev_probabilities is not None:
        free, levels = encode_rows(bev_probabilities.reshape(-1, bev_probabilities.shape[-1]))
        bev = BevCodes(free.reshape(grid.shape[:2]), levels.reshape(*grid.shape[:2], -1), None)
    return CompactTeacher(token, grid, TeacherTargets(voxels, bev))


def _bits(mask: Bool[np.ndarray, "..."] | None) -> UInt8[np.ndarray, "bytes"] | None:
    return None if mask is None else np.packbits(mask.reshape(-1))


def compact_from_dense(dense: DenseTeacher) -> CompactTeacher:
    """Codes of a dense file; its BEV map is kept only if it has no voxels, which give the map by the column rule."""
    if dense.voxel_logits is not None:
        sparse = sparse_from_probabilities(np.exp(dense.voxel_logits.astype(np.float32)))
        valid = None if dense.valid is None else dense.valid.astype(bool)
        return compact_teacher(dense.token, dense.grid, sparse, None, valid)
    assert dense.bev_logits is not None
    return compact_teacher(dense.token, dense.grid, None, np.exp(dense.bev_logits.astype(np.float32)))


def write_teacher(path: Path, teacher: DenseTeacher | CompactTeacher, *, value_kind: str = "") -> int:
    """Writes one sample, whole or not at all, uncompressed; returns the bytes written.

    Codes hold hardly anything to compress: deflated they take two thirds of the room and twice the time to read.

    Args:
      path: the file.
      teacher: its content.
      value_kind: what the numbers were that it was made from; kept beside token and grid.
    """
    fields = (
        _arrays_from_codes(teacher.codes, teacher.grid) if isinstance(teacher, CompactTeacher) else teacher._asdict()
    )
    arrays = {name: value for name, value in fields.items() if isinstance(value, np.ndarray)}
    meta = {"token": teacher.token, "grid": teacher.grid.to_dict(), "value_kind": value_kind}
    arrays["meta"] = np.array(json.dumps(meta))
    # A run that is killed leaves whole files only, so that --skip-existing can trust them.
    with writing(path) as scratch:
        with scratch.open("wb") as file:
            np.savez(file, **arrays)
        return scratch.stat().st_size


def read_teacher(source: Path | bytes) -> DenseTeacher | CompactTeacher:
    """Reads a file as written by `write_teacher`, or its bytes.

    Raises:
      DataError: the file is damaged, or an array is of another kind, shape or range than its grid says.
      OSError: it cannot be opened.
    """
    try:
        meta = read_meta(source)
        token, grid = meta["token"], VoxelGrid.from_dict(meta["grid"])
        if grid.num_voxels > MOST_VOXELS:
            raise DataError(f"a grid of {grid.num_voxels} voxels; at most {MOST_VOXELS} are read")
        # No array is larger than dense scores in float32: known before anything is unpacked.
        arrays = read_npz(source, largest=4 * NUM_CLASSES * grid.num_voxels)
        require_sound(arrays, grid)
        if "voxel_logits" in arrays or "bev_logits" in arrays:
            return DenseTeacher(token, grid, *(arrays.get(name) for name in DenseTeacher._fields[2:]))
        return CompactTeacher(token, grid, _codes_from_arrays(arrays, grid))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(f"no readable teacher file: {error}") from error


def read_meta(source: Path | bytes) -> dict:
    """Token, grid and value kind of a file; raises DataError, OSError, ValueError or TypeError."""
    meta = json.loads(str(read_npz(source, ("meta",), largest=1 << 16)["meta"]))
    if not isinstance(meta, dict) or not isinstance(meta.get("token"), str):
        raise DataError("its meta names no token")
    return meta


def _arrays_from_codes(codes: TeacherTargets, grid: VoxelGrid) -> dict[str, np.ndarray | None]:
    """By name in the file: `active` [ceil(X*Y*Z/8)] bits, `levels` [9, M], `bev_levels` [9, X, Y]."""
    arrays = {}
    # Levels lie as one plane per byte, as files that were compressed have them.
    if codes.voxels is not None:
        index, free, levels, background, valid = codes.voxels
        # Bits over the grid take a third of what the index takes.
        active = np.zeros(grid.num_voxels, bool)
        active[index] = True
        arrays = {"active": np.packbits(active), "free": free, "levels": np.ascontiguousarray(levels.T)}
        arrays |= {"background": background, "valid": valid}
    if codes.bev is not None:
        free, levels, valid = codes.bev
        planes = np.ascontiguousarray(np.moveaxis(levels, -1, 0))
        arrays |= {"bev_free": free, "bev_levels": planes, "bev_valid": valid}
    return arrays


def _codes_from_arrays(arrays: dict[str, np.ndarray], grid: VoxelGrid) -> TeacherTargets:
    """The reverse; `levels` [9, M] become [M, 9]."""
    voxels = bev = None
    if "free" in arrays:
        is_active = np.unpackbits(arrays["active"], count=grid.num_voxels).view(bool)
        voxels = VoxelCodes(
            np.flatnonzero(is_active).astype(np.int32),
            arrays["free"],
            cv2.transpose(arrays["levels"]),  # ten times as fast as numpy's copy
            arrays["background"],
            arrays.get("valid"),
        )
    if "bev_free" in arrays:
        levels = np.ascontiguousarray(np.moveaxis(arrays["bev_levels"], 0, -1))
        bev = BevCodes(arrays["bev_free"], levels, arrays.get("bev_valid"))
    return TeacherTargets(voxels, bev)


def write_manifest(
    directory: Path,
    *,
    grid: VoxelGrid,
    form: str,
    samples: int,
    max_active_voxels: int,
    contents: dict[str, bool],
    source: str,
    matched_by: str,
    value_kind: dict[str, int],
    details: dict,
) -> None:
    """Writes manifest.json of a folder of teacher files.

    Args:
      directory: the folder.
      grid: grid of all files.
      form: "dense" or "compact".
      samples: number of files.
      max_active_voxels: largest number of active voxels in one file.
      contents: which of "voxels", "bev" and "validity" every file holds.
      source: what the files were made from.
      matched_by: how ids became tokens.
      value_kind: number of inputs per kind ("probabilities", "logits").
      details: further facts: measured sizes, versions, the audit.
    """
    manifest = {
        "schema": SCHEMA,
        "version": SCHEMA_VERSION,
        "form": form,
        "source": source,
        "grid": grid.to_dict(),
        "classes": list(CLASS_NAMES),
        "samples": samples,
        "matched_by": matched_by,
        "value_kind": value_kind,
        # Softening belongs to the loss: files that are soft already would be softened twice.
        "temperature": 1.0,
        "max_active_voxels": max_active_voxels,
        "contents": contents,
        **details,
    }
    write_json(directory / MANIFEST_NAME, manifest)

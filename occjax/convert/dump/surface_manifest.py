"""The manifest beside a dump that we write: what it was made from and with which options."""

import json
from pathlib import Path
from typing import NamedTuple

from occjax.classes import CLASS_NAMES, FREE, NUM_CLASSES
from occjax.convert.dump.arrays import DumpError
from occjax.convert.dump.options import DumpOptions
from occjax.convert.dump.surface import SurfaceOptions
from occjax.storage import versions, write_json

MANIFEST_NAME = "manifest.json"
SCHEMA, SCHEMA_VERSION = "occjax-dump", 1


class SurfaceSource(NamedTuple):
    """What a dump is made from.

    Attributes:
      source: in words; dumps of one source may be completed, those of another are refused.
      ids: what the file names count or name.
      details: further facts.
    """

    source: str
    ids: str
    details: dict


def surface_manifests(made: SurfaceSource, options: DumpOptions, *, taken: Path) -> dict[Path, dict]:
    """The manifest of every folder that the options name, held against what an earlier run left there.

    Args:
      made: what the dump is made from.
      options: how it is written; splits and kinds of earlier runs remain listed.
      taken: folder with a manifest of another kind, of the teacher files.

    Raises:
      DumpError: a folder holds something else, or a dump of another source or other options.
    """
    surface = options.surface
    facts = {
        "schema": SCHEMA,
        "version": SCHEMA_VERSION,
        "source": made.source,
        "grid": options.grid.to_dict(),
        "value_kind": options.voxel_kind,
        "ids": made.ids,
        "spatial_shape": list(options.grid.shape),
        "num_classes": NUM_CLASSES,
        "free_id": FREE,
        "classes": list(CLASS_NAMES),
        "options": {**surface.content(), "dump_3d_type": options.dump_3d_type or "logits"},
    }
    places: dict[Path, list[str]] = {}
    for kind, folder in surface.folders.items():
        # One for all kinds in --also-dir, and one in each folder that is named by itself.
        beside = folder.parent if kind in surface.also and folder == Path(surface.also_dir) / kind else folder
        places.setdefault(beside, []).append(kind)
    manifests = {}
    for place, kinds in places.items():
        earlier = _earlier(place, kinds, facts, surface, taken)
        manifests[place] = {
            **facts,
            "kinds": sorted({*earlier.get("kinds", []), *kinds}),
            "splits": list(dict.fromkeys([*earlier.get("splits", []), *options.splits])),
            "run": {"max_samples": options.max_samples, "skip_existing": options.skip_existing},
            **made.details,
            "versions": versions(),
        }
    return manifests


def write_manifests(manifests: dict[Path, dict]) -> None:
    """Writes manifests by folder, before the first file: what has none is not ours.

    Raises:
      DumpError: a folder cannot be written.
    """
    for place, manifest in manifests.items():
        try:
            write_json(place / MANIFEST_NAME, manifest)
        except OSError as error:
            raise DumpError(f"cannot write to {place}: {error.strerror}; choose another folder") from error


def value_kind_of(source: Path) -> str:
    """What the manifest beside a dump says its voxel scores are; empty where it says nothing."""
    manifest = _read(source / MANIFEST_NAME)
    return str(manifest.get("value_kind", "")) if manifest.get("schema") == SCHEMA else ""


def _earlier(place: Path, kinds: list[str], facts: dict, options: SurfaceOptions, taken: Path) -> dict:
    """The manifest of an earlier run, empty if there is none."""
    choose = "choose another --also-dir"
    if place.resolve() == taken.resolve():
        raise DumpError(f"{place} is the folder of the teacher files, which have a manifest of their own; {choose}")
    found = _read(place / MANIFEST_NAME)
    if not found:
        full = next((options.folders[k] for k in kinds if any(options.folders[k].glob("*/*_*"))), None)
        if full is not None:
            raise DumpError(f"{full} holds files but {place} no {MANIFEST_NAME} that says what they are; {choose}")
        return {}
    if found.get("schema") != SCHEMA:
        raise DumpError(f"{place / MANIFEST_NAME} is that of something else ({found.get('schema')}); {choose}")
    pairs = [(name, found.get(name), value) for name, value in facts.items() if name != "options"]
    then = found.get("options", {})
    pairs += [(f"--{name.replace('_', '-')}", then.get(name), value) for name, value in facts["options"].items()]
    different = [f"{name} ({before}, now {now})" for name, before, now in pairs if before != now]
    if different:
        raise DumpError(
            f"{place} holds a dump of another {', '.join(different)}; {choose}, or begin anew: rm -r {place}"
        )
    return found


def _read(path: Path) -> dict:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DumpError(f"{path} cannot be read ({error}); delete it and the dump beside it") from error
    return found if isinstance(found, dict) else {}

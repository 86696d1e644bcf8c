"""Command line of the synthetic city: `python -m occjax.synthetic --output=DIR`."""

import sys
import time
from pathlib import Path

from occjax.config import SyntheticConfig
from occjax.synthetic.generate import generate
from occjax.system.command_line import Parser, status


def main(arguments: list[str] | None = None) -> int:
    """Parses the flags, generates, and returns the exit status."""
    default = SyntheticConfig()
    parser = Parser(
        "python -m occjax.synthetic",
        "Generate a synthetic city as a nuScenes root (version v1.0-synthetic): six cameras and LiDAR per keyframe,\n"
        "SurroundOcc and Occ3D labels, boxes, and a simulated teacher dump.",
    )
    parser.add_argument("--output", required=True, type=Path, help="folder to create; must not hold anything else")
    for flag, field, text in (
        ("--train-scenes", "train_scenes", "scenes of the train split"),
        ("--val-scenes", "val_scenes", "scenes of the val split"),
        ("--keyframes", "keyframes_per_scene", "per scene, 0.5 s apart"),
        ("--image-width", "image_width", "pixels"),
        ("--image-height", "image_height", "pixels"),
        ("--seed", "seed", "another seed gives another city"),
    ):
        parser.add_argument(flag, dest=field, metavar="N", type=int, default=getattr(default, field), help=text)
    parser.add_argument("--processes", type=int, default=None, help="worker processes; one per core if not given")
    fields = vars(parser.parse_args(arguments))
    output, processes = fields.pop("output"), fields.pop("processes")
    config = SyntheticConfig(enabled=True, **fields)
    began = time.monotonic()

    # One line that overwrites itself; the blanks cover the rest of a longer one before.
    def show(line: str) -> None:
        sys.stderr.write(f"\r{line}   ")
        sys.stderr.flush()

    def run() -> int:
        generate(output, config, processes=processes, progress=show)
        keyframes = (config.train_scenes + config.val_scenes) * config.keyframes_per_scene
        sys.stderr.write(f"\n{output}: {keyframes} keyframes, {time.monotonic() - began:.0f} s\n")
        return 0

    return status(run)


if __name__ == "__main__":
    sys.exit(main())

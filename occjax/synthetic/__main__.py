"""Command line of the synthetic city: `python -m occjax.synthetic --output=DIR`."""

import sys
import time
from pathlib import Path

from occjax.command_line import Parser, status
from occjax.config import SyntheticConfig
from occjax.synthetic.generate import generate


def main(arguments: list[str] | None = None) -> int:
    """Parses the flags, generates, and returns the exit status."""
    default = SyntheticConfig()
    parser = Parser(
        "python -m occjax.synthetic",
        "Generate a synthetic city as a nuScenes root (version v1.0-synthetic): six cameras and LiDAR per keyframe,\n"
        "SurroundOcc and Occ3D labels, boxes, and a simulated teacher dump.",
    )
    parser.add_argument("--output", required=True, type=Path, help="folder to create; must not hold anything else")
    parser.add_argument("--train-scenes", type=int, default=default.train_scenes, help="scenes of the train split")
    parser.add_argument("--val-scenes", type=int, default=default.val_scenes, help="scenes of the val split")
    parser.add_argument("--keyframes", type=int, default=default.keyframes_per_scene, help="per scene, 0.5 s apart")
    parser.add_argument("--image-width", type=int, default=default.image_width, help="pixels")
    parser.add_argument("--image-height", type=int, default=default.image_height, help="pixels")
    parser.add_argument("--seed", type=int, default=default.seed, help="another seed gives another city")
    parser.add_argument("--processes", type=int, default=None, help="worker processes; one per core if not given")
    flags = parser.parse_args(arguments)
    config = SyntheticConfig(
        enabled=True,
        seed=flags.seed,
        train_scenes=flags.train_scenes,
        val_scenes=flags.val_scenes,
        keyframes_per_scene=flags.keyframes,
        image_width=flags.image_width,
        image_height=flags.image_height,
    )
    began = time.monotonic()

    # One line that overwrites itself; the blanks cover the rest of a longer one before.
    def show(line: str) -> None:
        sys.stderr.write(f"\r{line}   ")
        sys.stderr.flush()

    def run() -> int:
        generate(flags.output, config, processes=flags.processes, progress=show)
        keyframes = (config.train_scenes + config.val_scenes) * config.keyframes_per_scene
        sys.stderr.write(f"\n{flags.output}: {keyframes} keyframes, {time.monotonic() - began:.0f} s\n")
        return 0

    return status(run)


if __name__ == "__main__":
    sys.exit(main())

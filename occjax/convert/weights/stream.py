"""A stream of predictions: images are read ahead of the teacher, and files are written behind it."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, runtime_checkable

from occjax.convert.dump.sample import SampleTask
from occjax.convert.dump.tasks import row_of
from occjax.convert.weights.keyframes import Keyframe, KeyframeReader
from occjax.convert.weights.taught import Values
from occjax.errors import UserError
from occjax.system.ahead import ahead

# What a teacher says of tasks, one after the other.
Predicted = Callable[[list[SampleTask]], Iterator[tuple[SampleTask, Values | UserError]]]


@runtime_checkable
class VoxelPredictor(Protocol):
    """A teacher as this file needs it: `network.NetworkPredictor` is one.

    Attributes:
      value_kind: what it predicts, "probabilities" or "logits".
      image_size: height and width of the images that it wants, pixels.
      at_once: keyframes that it takes side by side.
    """

    value_kind: str
    image_size: tuple[int, int]
    at_once: int

    def __call__(self, keyframes: Sequence[Keyframe]) -> list[Values | UserError]:
        """Values [X, Y, Z, K] of each of up to `at_once` keyframes, free last; or why there are none."""


def predict_tasks(
    predictor: VoxelPredictor, readers: dict[str, KeyframeReader], workers: int, tasks: list[SampleTask]
) -> Iterator[tuple[SampleTask, Values | UserError]]:
    """What the teacher says of each task; images are read while it is busy."""

    def read(task: SampleTask) -> Keyframe:
        return readers[task.file.split](row_of(task))

    def flush() -> Iterator[tuple[SampleTask, Values | UserError]]:
        said = predictor([keyframe for _, keyframe in ready])
        yield from zip([task for task, _ in ready], said, strict=True)
        ready.clear()

    ready: list[tuple[SampleTask, Keyframe]] = []
    with ThreadPoolExecutor(workers) as pool:
        for task, reading in ahead(pool, read, tasks, 2 * predictor.at_once):
            try:
                ready.append((task, reading.result()))
            except UserError as error:
                yield task, error
            if len(ready) == predictor.at_once:
                yield from flush()
        if ready:
            yield from flush()

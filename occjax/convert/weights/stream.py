"""A stream of predictions: images are read ahead of the teacher, and files are written behind it."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar, runtime_checkable

from occjax.convert.dump.sample import SampleTask
from occjax.convert.weights.keyframes import Keyframe, KeyframeReader
from occjax.convert.weights.taught import Values
from occjax.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

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
        return readers[task.file.split](int(task.file.id.removesuffix("_0")))

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


def ahead(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], depth: int
) -> Iterator[tuple[Item, "Future[Result]"]]:
    """Each item with what becomes of it in the pool, in order; up to `depth` are under way at a time."""
    pending: deque[tuple[Item, Future[Result]]] = deque()
    for item in items:
        pending.append((item, pool.submit(function, item)))
        if len(pending) > depth:
            yield pending.popleft()
    while pending:
        yield pending.popleft()

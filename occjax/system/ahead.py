"""Ahead: results of a pool in the order of their items, a few of them under way while the last one is used."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], depth: int
) -> Iterator[tuple[Item, "Future[Result]"]]:
    """Each item with what becomes of it in the pool, in order; `depth` more are under way when it is given out.

    Where the items end with an error, it is raised after those that came before it.
    """
    pending: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            pending.append((item, pool.submit(function, item)))
            if len(pending) > depth:
                yield pending.popleft()
    except Exception:
        yield from pending
        raise
    yield from pending

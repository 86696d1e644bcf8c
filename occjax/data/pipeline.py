"""Pipeline of grain chains that yield batches for training, without end, and for evaluation, each sample once."""

import gc
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from absl import flags

from occjax.config import Config, DataConfig
from occjax.data.index import Index
from occjax.data.parts import Parts
from occjax.data.samples import SampleReader
from occjax.data.sources import open_source
from occjax.data.substitutes import ReadBatch, SkipLog, SubstitutingReader
from occjax.data.transfer import flatten, restore
from occjax.data.worker import start_worker
from occjax.errors import DataError
from occjax.system.child_processes import starting
from occjax.types import Batch


class BatchLoader:
    """Iterator of numpy `Batch`es whose position can be saved and restored.

    A batch depends on the configuration and its number alone: not on worker count, process count or what was read
    before. The state is therefore a small dict of integers (save it as JSON), and restoring it is exact.

    Attributes:
      skipped: by row of the split, why a sample was skipped, for the batches handed out so far (data.on_error=skip).
    """

    def __init__(self, samples, data: DataConfig, *, batch_size: int, identity: dict[str, int], max_skipped: int = 0):
        """Use `make_train_loader` or `make_eval_loader`.

        Args:
          samples: grain MapDataset of `occjax.data.substitutes.ReadBatch` of one sample each.
          data: number of worker processes (0 reads in this process, in a thread) and of batches that each keeps ready.
          batch_size: samples per batch of this process.
          identity: what a position is relative to; a state with another identity is refused.
          max_skipped: distinct samples for which others may stand in.
        """
        # Before the chain becomes an iterator: a batch is then an index, from which a restored loader goes on at once.
        self._batches = samples.batch(batch_size, drop_remainder=True, batch_fn=_stack_read)
        # A worker without a batch would start for nothing.
        self._workers = min(data.workers, len(self._batches))
        self._prefetch = data.prefetch
        self._identity = identity
        self._skips = SkipLog(max_skipped)
        self.skipped = self._skips.reasons
        self._next_batch = 0
        self._iterator = None

    def __len__(self) -> int:
        """Number of batches; sys.maxsize for a training loader, which has no end."""
        return len(self._batches)

    def __iter__(self) -> "BatchLoader":
        return self

    def __next__(self) -> Batch:
        try:
            item = self._first() if self._iterator is None else next(self._iterator)
        except StopIteration:
            self.close()
            raise
        except RuntimeError as error:
            # The other workers would go on for nobody.
            self.close()
            raise DataError(
                f"a loader process died: {error} Exit code -9 means out of memory, -7 a full /dev/shm (in a container: "
                "raise --shm-size); lower data.workers or data.prefetch, or set data.workers=0 to see the cause"
            ) from error
        read = restore(item) if self._workers else item
        self._skips.add(read.unreadable)
        self._next_batch += 1
        return read.batch

    def get_state(self) -> dict[str, int]:
        """Position after the last batch that was handed out."""
        return {"next_batch": self._next_batch, **self._identity}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues at a saved position; `{**get_state(), "next_batch": 0}` rewinds.

        Raises:
          DataError: the state was saved with other data, batch size or seed, or is damaged.
        """
        next_batch = state.get("next_batch")
        if not isinstance(next_batch, int) or next_batch < 0:
            raise DataError(
                f"the saved data position has next_batch {next_batch!r}, which is no number of a batch: the newest "
                "checkpoint is damaged; delete its folder, and the same command goes on from the one before"
            )
        found = {key: state.get(key) for key in self._identity}
        if found != self._identity:
            raise DataError(
                f"the saved data position belongs to {found}, this run has {self._identity}; continue with the "
                "configuration of the checkpoint, or start a new workdir"
            )
        # What the workers have read ahead belongs to the old position.
        self.close()
        self._next_batch = next_batch

    def close(self) -> None:
        """Stops the workers; the loader starts them again when it is used."""
        if self._iterator is None:
            return
        self._iterator.close()
        self._iterator = None
        # Grain's iterators refer to each other and to the last batch, which lies in shared memory.
        gc.collect()

    def _first(self):
        """Starts the chain; returns its first item."""
        self._iterator = self._chain()
        if not self._workers:
            return next(self._iterator)
        try:
            # Only now grain starts its loader processes, in threads of its own, which inherit what this one blocks.
            with starting():
                return next(self._iterator)
        except OSError as error:
            self.close()
            raise DataError(
                f"loader processes cannot be started: {error.strerror or error} (they need a writable /dev/shm, for "
                "semaphores and shared memory); set data.workers=0 to do without them"
            ) from error

    def _chain(self):
        import grain

        rest = self._batches[self._next_batch :]
        if len(rest) == 0:  # grain refuses an empty chain
            return (batch for batch in ())
        if self._workers:
            # Last in the chain, so that it happens in the worker.
            rest = rest.map(flatten)
            # Grain reads its own flags, which raises in a program that never parsed any.
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()
        # Worker processes read with their own thread: more would fight over the one core that each has.
        threads = 0 if self._workers else 1
        read_options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=self._prefetch * threads)
        batches = rest.to_iter_dataset(read_options)
        if self._workers:
            options = grain.MultiprocessingOptions(
                num_workers=min(self._workers, len(rest)), per_worker_buffer_size=self._prefetch
            )
            batches = batches.mp_prefetch(options, worker_init_fn=start_worker)
        return iter(batches)


def make_train_loader(
    config: Config, index: Index, parts: Parts, *, process_index: int = 0, process_count: int = 1
) -> BatchLoader:
    """Shuffled, augmented batches of `config.data.train_split`, without end; each epoch has its own order.

    `config.data.batch_size` counts samples over all processes; each process gets its share of every batch. The shuffle
    is global, and which samples and augmentations form a batch does not depend on `process_count`.

    A sample that cannot be read raises SampleError from the loader, or is skipped; see `config.data.on_error`.

    Args:
      config: data, grid, augmentation, depth range.
      index: of `config.data.root`.
      parts: what samples hold beside images.
      process_index: this process.
      process_count: all processes.

    Raises:
      DataError: files are absent (counted, with the first five tokens), or the batch does not divide.
      GridMismatchError: labels or teacher do not lie on the model's grid.
    """
    import grain

    split = index.split(config.data.train_split)
    source = open_source(config.data, split, parts)
    reader = SampleReader(config, source, augment=config.augment)
    source.store.require_complete()
    max_skipped = config.data.max_skipped if config.data.on_error == "skip" else 0
    size = _share(config.data.batch_size, process_count)
    samples = (
        grain.MapDataset.range(len(split))
        .seed(config.data.shuffle_seed)
        # Over the whole split, before it is dealt out to processes: any number of them sees the same batches.
        .shuffle()
        .repeat()
        # Augment before sharding: the random numbers belong to the sample's global position.
        .random_map(SubstitutingReader(reader, len(split), max_skipped))[process_index::process_count]
    )
    # What a batch number means: with another batch size or seed the same number names other samples.
    identity = {"samples": len(split), "batch_size": config.data.batch_size, "seed": config.data.shuffle_seed}
    return BatchLoader(samples, config.data, batch_size=size, identity=identity, max_skipped=max_skipped)


def make_eval_loader(
    config: Config,
    index: Index,
    split: str,
    parts: Parts,
    *,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
    max_samples: int = 0,
) -> BatchLoader:
    """Batches of a split in index order without augmentation; the last is completed with `is_valid` False.

    No sample is dropped or counted twice, over all processes together.

    Args:
      config: as for training.
      index: of `config.data.root`.
      split: name.
      parts: what samples hold beside images.
      batch_size: samples per batch over all processes.
      process_index: this process.
      process_count: all processes; process i gets the samples i, i + process_count, ...
      max_samples: stop after this many samples; 0 = the whole split.

    Raises:
      DataError: files are absent (counted, with the first five tokens), or the batch does not divide.
      GridMismatchError: labels or teacher do not lie on the model's grid.
    """
    import grain

    keyframes = index.split(split)
    source = open_source(config.data, keyframes, parts)
    reader = SampleReader(config, source, augment=None)
    source.store.require_complete()
    share = _share(batch_size, process_count)
    count = min(len(keyframes), max_samples) if max_samples else len(keyframes)
    # Up to a whole batch: one compiled program serves all of them, and every process has as many.
    padded = -(-count // batch_size) * batch_size
    read = partial(_read_or_pad, reader=reader, count=count)
    samples = grain.MapDataset.range(padded).map(read)[process_index::process_count]
    identity = {"samples": count, "batch_size": batch_size}
    return BatchLoader(samples, config.data, batch_size=share, identity=identity)


def _read_or_pad(position: int, reader: SampleReader, count: int) -> ReadBatch:
    # Padding is a real sample, marked: no model step meets images or matrices that cannot occur.
    return ReadBatch(reader(position % count, np.random.default_rng(0), is_valid=position < count), {})


def _share(batch_size: int, process_count: int) -> int:
    if batch_size < 1 or batch_size % process_count:
        raise DataError(f"a batch of {batch_size} samples does not divide among {process_count} processes")
    return batch_size // process_count


def _stack_read(elements: Sequence[ReadBatch]) -> ReadBatch:
    unreadable = {row: reason for element in elements for row, reason in element.unreadable.items()}
    return ReadBatch(_stack([element.batch for element in elements]), unreadable)


def _stack(elements: Sequence[Any]) -> Any:
    """Stacks equal structures of arrays; grain's own would leave scalars of one sample unstacked."""
    first = elements[0]
    if first is None:
        return None
    if isinstance(first, tuple):
        return type(first)(*(_stack(parts) for parts in zip(*elements, strict=True)))
    return np.asarray(first)[None] if len(elements) == 1 else np.stack(elements)

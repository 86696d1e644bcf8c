"""Bytes of samples from packed records: one read per sample, at any place of any shard."""

from pathlib import Path

from occjax.config import DataConfig
from occjax.data.index import SplitIndex
from occjax.data.parts import LABELS, Parts, StoredSample
from occjax.data.records import decode_record, packing_command, read_shards, repacking, require_fit
from occjax.errors import DataError, SampleError


class RecordStore:
    """Where the bytes of a split lie, in the folder `data.records_dir`, which may hold several splits.

    Attributes:
      shards: that hold samples of the split.
      labelled: tokens of the samples with labels of the configured set.
    """

    def __init__(self, data: DataConfig, split: SplitIndex, parts: Parts):
        """Reads the manifests and checks those of the shards that hold samples of the split.

        Raises:
          DataError: no shards, or shards that do not hold what is wanted.
        """
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        self.folder = Path(data.records_dir)
        self._split, self._parts = split, parts
        # Only shards that hold samples of this split have to fit: the folder may hold others with other parts.
        wanted = set(split.tokens)
        self.shards = [shard for shard in read_shards(self.folder) if not wanted.isdisjoint(shard.tokens)]
        for shard in self.shards:
            require_fit(shard, data, parts)
        self.labelled = {t for shard in self.shards if shard.facts[LABELS] == data.labels for t in shard.tokens}
        packed = [(token, shard.path) for shard in self.shards for token in shard.tokens]
        self._place = {token: (position, path) for position, (token, path) in enumerate(packed)}
        # With [first:last], files are opened when they are first read, in the process that reads them: loaders are
        # spawned, and an open file cannot be pickled.
        paths = [f"{shard.path}[0:{len(shard.tokens)}]" for shard in self.shards]
        self._records = ArrayRecordDataSource(paths) if paths else ()

    def open(self, row: int) -> StoredSample:
        """The sample in row `row` of the split, read in one go; raises SampleError where it is absent or damaged."""
        token = self._split.tokens[row]
        if token not in self._place:
            raise SampleError(
                f"sample {token} is not in the records in {self.folder}; pack it with {packing_command(self.folder)}"
            )
        position, path = self._place[token]
        remedy = repacking(path.with_suffix(".json"))
        try:
            found, files = decode_record(self._records[position])
        except (DataError, RuntimeError) as error:  # ArrayRecord knows no other error than RuntimeError
            raise SampleError(f"cannot read the record of sample {token} in {path}: {error}; {remedy}") from error
        # The manifest alone says which record is whose; after a mix-up every sample would have foreign labels.
        if found != token:
            raise SampleError(
                f"the record of sample {token} in {path} holds sample {found}: shard and manifest do not belong "
                f"together; {remedy}"
            )

        def read(kind: str) -> bytes:
            if kind not in files:
                raise DataError("it was packed without")
            return files[kind]

        return StoredSample(read, where=lambda kind: f"{path} ({kind})", remedy=lambda kind: remedy)

    def require_complete(self) -> None:
        """Raises DataError counting the samples of the split that lack a part, with the first five tokens."""
        tokens, teacher = self._split.tokens, self._parts.teacher
        for what, absent in (
            ("samples", [token for token in tokens if token not in self._place]),
            ("teacher targets", teacher.missing(tokens) if teacher else []),
        ):
            if absent:
                more = ", ..." if len(absent) > 5 else ""
                raise DataError(
                    f"records in {self.folder} lack {len(absent)} of {len(tokens)} {what} of split {self._split.name}, "
                    f"tokens {', '.join(absent[:5])}{more}; pack them with {packing_command(self.folder)}"
                )

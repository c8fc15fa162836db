"""A Parquet file as a source: its rows in order, each as a JSON object of its columns.

Rows have no bytes of their own; what is kept is the JSON made here, the same on every machine. An
instant is epoch ms, what JSON cannot hold is tagged. The extra `parquet` brings the reader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from runwright.adapters.items import as_bytes
from runwright.kernel.canonical import digest
from runwright.kernel.errors import Deferred, InvalidSpec, Refused
from runwright.kernel.ports import Arrival

#: Rows that are decoded at once.
ROWS: Final = 4096


class ParquetSource:
    """The EventSource port on a Parquet file."""

    def __init__(
        self, name: str, path: Path, *, now_ms: Callable[[], int], position: Any = None
    ) -> None:
        """Read from a row on.

        Raises: refused without the extra; invalid-spec for a file that is not there, is no Parquet
        file, or is another one than the position's.
        """
        try:
            import pyarrow.parquet  # lazy: the extra parquet
        except ImportError as error:
            message = f"{name}: reading Parquet needs pyarrow"
            raise Refused(message, hint="pip install 'runwright[parquet]'") from error
        self.name = name
        self.is_over = False
        self.look_s: float | None = None
        self._path = path
        self._now_ms = now_ms
        self._paused = False
        try:
            self._file: Any = pyarrow.parquet.ParquetFile(path)
        except (OSError, pyarrow.ArrowException) as error:
            what = getattr(error, "strerror", None) or str(error).partition("\n")[0]
            message = f"{path}: {what}"
            hint = "sources[].file.path is relative to the folder of the spec."
            raise InvalidSpec(message, hint=hint) from error
        self._errors = (OSError, pyarrow.ArrowException)
        self._total: int = self._file.metadata.num_rows
        # Which rows a file holds, cheaply: its columns, and where its row groups begin and end.
        groups = [
            self._file.metadata.row_group(index).to_dict()
            for index in range(self._file.metadata.num_row_groups)
        ]
        self._identity = digest(repr((str(self._file.schema_arrow), groups)).encode())[:16]
        self._row = 0 if position is None else self._row_of(position)
        self._rows = self._iterated(self._row)
        self._waiting: list[bytes] = []

    def _row_of(self, position: Any) -> int:
        try:
            row, identity = int(position["row"]), str(position["file"])
        except (KeyError, TypeError, ValueError) as error:
            message = f"{self.name}: {position!r} is no position in a Parquet file"
            raise InvalidSpec(message) from error
        if identity != self._identity or row > self._total:
            message = f"{self._path} is another file than the one {self.name} was reading"
            hint = "Put the file back as it was, or give the source another source_id."
            raise InvalidSpec(message, hint=hint)
        return row

    def _iterated(self, first: int) -> Iterator[list[bytes]]:
        """Yield rows from one on, in batches; row groups before it are not read."""
        start = 0
        for index in range(self._file.metadata.num_row_groups):
            stop = start + self._file.metadata.row_group(index).num_rows
            row = start
            start = stop
            if stop <= first:
                continue
            for batch in self._file.iter_batches(batch_size=ROWS, row_groups=[index]):
                rows = batch.slice(max(0, first - row)).to_pylist()
                at = max(first, row)
                row += batch.num_rows
                if rows:
                    yield [
                        as_bytes(each, f"{self._path}, row {at + offset}")
                        for offset, each in enumerate(rows)
                    ]

    def poll(self, most: int) -> Arrival | None:
        """Return the next rows; None while it is paused or over.

        Raises: deferred when the file cannot be read, invalid-spec for a value of no JSON form.
        """
        if self._paused or self.is_over:
            return None
        if not self._waiting:
            try:
                self._waiting = next(self._rows, [])
            except self._errors as error:
                self._rows = self._iterated(self._row)
                message = f"{self._path} cannot be read: {error}"
                raise Deferred(message) from error
        if not self._waiting:
            self.is_over = True
            return None
        items, self._waiting = self._waiting[:most], self._waiting[most:]
        self._row += len(items)
        return Arrival(
            source=self.name,
            items=items,
            position={"row": self._row, "file": self._identity},
            received_ms=self._now_ms(),
        )

    def acknowledge(self, position: Any) -> None:
        """Nothing: a file is not told what was read of it."""

    def pause(self) -> None:
        """Read no further; the row stays where it is."""
        self._paused = True

    def resume(self) -> None:
        """Go on at the row."""
        self._paused = False

    def close(self) -> None:
        """Close the file; again is nothing."""
        self._file.close()
        self.is_over = True

"""A Parquet file as a source, read a few thousand rows at a time whatever its row groups."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from services.mesh.errors import Fatal
from services.simulator.chunk import CHUNK_RECORDS_MAX, Chunk, Ints, file_name, running_clock
from services.simulator.columns import REQUIRED, TRUTH, WHOLE, OrderCheck, check_columns, kind_of
from services.simulator.outcomes import TrueLabels, fixed_delay_run


class ParquetSource:
    """Rows become JSON records; a null in a column that every event needs is refused with its row."""

    history_until_ms: int | None = None

    def __init__(self, file: Path, label_delay_ms: int) -> None:
        self._file, self._label_delay_ms = file, label_delay_ms
        self.name = file_name(file)
        with self._open() as parquet:
            schema = parquet.schema_arrow
            check_columns(str(file), set(schema.names))
            for field in schema:
                _check_type(str(file), field.name, field.type)
            self.records_expected: int | None = parquet.metadata.num_rows
            if not self.records_expected:
                raise Fatal(f"INPUT={file}: has no rows; nothing to send")
            self._columns = list(schema.names)
            self._truth = TRUTH in self._columns
            order, row = OrderCheck(str(file)), 0
            for batch in parquet.iter_batches(65_536, columns=["event_time_ms"], use_threads=False):
                order.see(_numbers(str(file), row, "event_time_ms", batch.column(0)))
                row += batch.num_rows

    def chunks(self, position: int) -> Iterator[Chunk]:
        """All chunks from the one with ``position``; from the first when outcomes may be due."""
        start, clock_ms = 0, 0
        with self._open() as parquet:
            for batch in parquet.iter_batches(CHUNK_RECORDS_MAX, use_threads=False):
                if self._truth or start + batch.num_rows > position:
                    chunk = self._chunk(batch, start, clock_ms)
                    clock_ms = int(chunk.clock_ms[-1])
                    yield chunk
                start += batch.num_rows

    def _open(self) -> Any:
        try:
            return pq.ParquetFile(self._file, pre_buffer=False)
        except pa.ArrowInvalid as error:
            raise Fatal(
                f"INPUT={self._file}: is not a Parquet file ({str(error).splitlines()[0]}); write it anew"
            ) from error

    def _chunk(self, batch: Any, start: int, clock_ms: int) -> Chunk:
        place = str(self._file)
        columns = {name: batch.column(at) for at, name in enumerate(self._columns)}
        for name in (*REQUIRED, "event_id"):
            if name in columns:
                _refuse_null(place, start, name, columns[name])
        times = _numbers(place, start, "event_time_ms", columns["event_time_ms"])
        truth = columns.pop(TRUTH, None)
        lists = {name: column.to_pylist() for name, column in columns.items()}
        customers = lists["customer_id"]
        outcomes = known = None
        if truth is not None:
            known = TrueLabels.of(lists["event_id"], customers, times, truth.to_pylist())
            outcomes = fixed_delay_run(known, self._label_delay_ms)
        return Chunk(
            first=start,
            clock_ms=running_clock(times, clock_ms),
            keys=[customer.encode() for customer in customers],
            values=_as_json(lists),
            outcomes=outcomes,
            truth=known,
        )


def _as_json(lists: dict[str, list[Any]]) -> list[bytes]:
    names = list(lists)
    optional = [name for name in names if name not in REQUIRED and name != "event_id"]
    records = (dict(zip(names, row, strict=True)) for row in zip(*lists.values(), strict=True))
    if not optional:
        return [orjson.dumps(record) for record in records]
    return [orjson.dumps({name: value for name, value in record.items() if value is not None}) for record in records]


def _check_type(file: str, name: str, kind: Any) -> None:
    if name in WHOLE:
        right = pa.types.is_integer(kind)
    elif name == TRUTH:
        right = pa.types.is_boolean(kind)
    else:
        right = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    if not right:
        raise Fatal(f"{file}: column {name} has type {kind}; must be {kind_of(name)}, cast it")


def _refuse_null(file: str, start: int, name: str, column: Any) -> None:
    if column.null_count:
        row = start + column.is_null().to_pylist().index(True)
        raise Fatal(f"{file}: row {row + 1}: {name}=null; every event needs it, fill it in or leave the row out")


def _numbers(file: str, start: int, name: str, column: Any) -> Ints:
    _refuse_null(file, start, name, column)
    numbers: Ints = column.to_numpy(zero_copy_only=False).astype(np.int64)
    return numbers

"""Input files: .parquet, .jsonl and .csv as sources of records.

The file as a whole is judged here (is it there, has it the columns, is it sorted), with one line when it cannot be
used. A single bad line of a .jsonl or .csv is sent byte for byte as it is: judging records is ingestion's work.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from services.mesh.errors import Fatal
from services.simulator.chunk import CHUNK_RECORDS_MAX, Chunk, Source, running_clock
from services.simulator.columns import ALLOWED, REQUIRED, TEXT, TRUTH, WHOLE, OrderCheck, check_columns
from services.simulator.outcomes import OutcomeRun, fixed_delay_run

_SAMPLE_LINES = 1_000
_COUNT_BYTES_MAX = 2_000_000_000  # counting the lines of more would keep people waiting; then no total is shown
_WHOLE_NUMBER = re.compile(r"-?\d{1,18}")
_TRUTHS = {"true": True, "1": True, "false": False, "0": False, "": None}


def open_source(path: str, label_delay_ms: int) -> Source:
    """The file at ``path`` as a source; Fatal when it cannot be one."""
    file = Path(path)
    makers: dict[str, Callable[[Path, int], Source]] = {
        ".parquet": ParquetSource,
        ".jsonl": lambda f, delay: LinesSource(f, delay, JsonLines()),
        ".csv": lambda f, delay: LinesSource(f, delay, CsvLines(_header(f))),
    }
    if file.suffix not in makers:
        raise Fatal(f"INPUT={path}: unknown extension {file.suffix or '(none)'}; must be {', '.join(makers)}")
    try:
        size = file.stat().st_size
        if file.is_dir():
            raise Fatal(f"INPUT={path}: is a directory; name one file of it")
        if size == 0:
            raise Fatal(f"INPUT={path}: is empty; nothing to send")
        return makers[file.suffix](file, label_delay_ms)
    except FileNotFoundError as error:
        raise Fatal(f"INPUT={path}: no such file (looked in {file.absolute().parent}); check the path") from error
    except PermissionError as error:
        raise Fatal(f"INPUT={path}: may not be read; check its permissions") from error


def _name(file: Path) -> str:
    """A changed file is another source; its progress is not continued."""
    facts = file.stat()
    return f"file {file.resolve()} {facts.st_size} bytes of {facts.st_mtime_ns}"


class ParquetSource:
    """A Parquet file, read a few thousand rows at a time whatever its row groups."""

    history_until_ms: int | None = None

    def __init__(self, file: Path, label_delay_ms: int) -> None:
        self._file, self._label_delay_ms = file, label_delay_ms
        self.name = _name(file)
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
        outcomes = None
        if truth is not None:
            outcomes = _known(lists["event_id"], customers, times, truth.to_pylist(), self._label_delay_ms)
        return Chunk(
            first=start,
            clock_ms=running_clock(times, clock_ms),
            keys=[customer.encode() for customer in customers],
            values=_as_json(lists),
            outcomes=outcomes,
        )


class Line(NamedTuple):
    """One line, parsed as far as it can be."""

    value: bytes  # what to send
    event_id: str | None
    event_time_ms: int | None
    customer_id: str | None
    fraud: bool | None
    fields: dict[str, Any] | None  # None: not a record at all


class JsonLines:
    """One JSON object a line; a line is sent as it is, without its ``is_fraud``."""

    skip = 0

    def parse(self, raw: bytes) -> Line:
        """``raw`` without its line end."""
        try:
            record = orjson.loads(raw)
        except orjson.JSONDecodeError:
            record = None
        if not isinstance(record, dict):
            return Line(raw, None, None, None, None, None)
        if isinstance(record.get(TRUTH, True), bool | None):
            return _line(raw, record)
        return Line(raw, None, None, None, None, record)  # the label is no label: ingestion refuses the field


class CsvLines:
    """Comma-separated lines under a header; sent as JSON, or as they are when a field does not fit its column."""

    skip = 1

    def __init__(self, header: Sequence[str]) -> None:
        self._header = header

    def parse(self, raw: bytes) -> Line:
        """``raw`` without its line end."""
        try:
            text = raw.decode()
            fields = next(csv.reader([text], strict=True)) if '"' in text else text.split(",")
        except (UnicodeDecodeError, csv.Error):
            return Line(raw, None, None, None, None, None)
        if len(fields) != len(self._header):
            return Line(raw, None, None, None, None, None)
        record: dict[str, Any] = {}
        for name, field in zip(self._header, fields, strict=True):
            if name in WHOLE:
                record[name] = int(field) if _WHOLE_NUMBER.fullmatch(field) else field
            elif name == TRUTH:
                record[name] = _TRUTHS.get(field.lower(), field)
            elif field:
                record[name] = field
        if isinstance(record.get(TRUTH, True), bool | None) and all(isinstance(record[name], int) for name in WHOLE):
            return _line(None, record)
        return Line(raw, None, None, None, None, record)


class LinesSource:
    """A text file of one record a line."""

    history_until_ms: int | None = None

    def __init__(self, file: Path, label_delay_ms: int, lines: JsonLines | CsvLines) -> None:
        self._file, self._label_delay_ms, self._lines = file, label_delay_ms, lines
        self.name = _name(file)
        self._truth = self._judge(list(itertools.islice(self._raw_lines(), _SAMPLE_LINES)))
        self.records_expected: int | None = _count_lines(file, lines.skip)

    def chunks(self, position: int) -> Iterator[Chunk]:
        """All chunks from the one with ``position``; from the first when outcomes may be due."""
        order, start, clock_ms = OrderCheck(str(self._file)), 0, 0
        lines = (raw for _, raw in self._raw_lines())
        while batch := list(itertools.islice(lines, CHUNK_RECORDS_MAX)):
            if self._truth or start + len(batch) > position:
                parsed = [self._lines.parse(raw) for raw in batch]
                order.see(np.array([line.event_time_ms for line in parsed if line.event_time_ms is not None], np.int64))
                # A record whose time nobody can read goes out with the one before it.
                times = np.array([line.event_time_ms or 0 for line in parsed], np.int64)
                chunk = Chunk(
                    first=start,
                    clock_ms=running_clock(times, clock_ms),
                    keys=[None if line.customer_id is None else line.customer_id.encode() for line in parsed],
                    values=[line.value for line in parsed],
                    outcomes=_outcomes(parsed, self._label_delay_ms),
                )
                clock_ms = int(chunk.clock_ms[-1])
                yield chunk
            start += len(batch)

    def _raw_lines(self) -> Iterator[tuple[int, bytes]]:
        """(line number from 1, line without its end), blank lines left out."""
        with self._file.open("rb") as stream:
            for number, raw in enumerate(stream, 1):
                line = raw.rstrip(b"\r\n")
                if number > self._lines.skip and line.strip():
                    yield number, line

    def _judge(self, sample: list[tuple[int, bytes]]) -> bool:
        """Refuse a file none of whose first lines could be an event; return whether it has the truth."""
        file = str(self._file)
        if not sample:
            raise Fatal(f"INPUT={file}: has no records; nothing to send")
        records = [
            (number, line.fields) for number, raw in sample if (line := self._lines.parse(raw)).fields is not None
        ]
        if not records:
            number, raw = sample[0]
            raise Fatal(f"{file}:{number}: {raw[:60]!r} is no record, and no line up to {sample[-1][0]} is; see --help")
        fields = [(number, record) for number, record in records if record is not None]
        # A column that some lines have is there; one that no line has is missing. Single lines are ingestion's to judge.
        names = {name for _, record in fields for name in record}
        check_columns(file, names & set(ALLOWED) if isinstance(self._lines, JsonLines) else names)
        for name, kind in (*((name, int) for name in WHOLE), *((name, str) for name in TEXT if name in names)):
            with_it = [(number, record[name]) for number, record in fields if record.get(name) is not None]
            if with_it and not any(type(value) is kind for _, value in with_it):
                number, value = with_it[0]
                raise Fatal(f"{file}:{number}: {name}={value!r} must be {_kind_of(name)}, and no line has it right")
        order = OrderCheck(file)
        order.see(np.array([r["event_time_ms"] for _, r in fields if type(r.get("event_time_ms")) is int], np.int64))
        return TRUTH in names


def _line(raw: bytes | None, record: dict[str, Any]) -> Line:
    """A record whose truth, if any, is well formed; it is taken out of what is sent."""
    has_truth = TRUTH in record
    fraud = record.pop(TRUTH, None)
    event_id, time, customer = record.get("event_id"), record.get("event_time_ms"), record.get("customer_id")
    return Line(
        orjson.dumps(record) if has_truth or raw is None else raw,
        event_id if type(event_id) is str else None,
        # Beyond any clock it is garbage that must not carry the sender's own clock away.
        time if type(time) is int and 0 <= time < 2**52 else None,
        customer if type(customer) is str else None,
        fraud,
        {**record, TRUTH: fraud} if has_truth else record,
    )


def _outcomes(lines: Sequence[Line], label_delay_ms: int) -> OutcomeRun | None:
    known = [line for line in lines if line.fraud is not None and line.event_time_ms is not None]
    known = [line for line in known if line.event_id is not None and line.customer_id is not None]
    if not known:
        return None
    times = np.array([line.event_time_ms for line in known], np.int64)
    ids, customers = [line.event_id or "" for line in known], [line.customer_id or "" for line in known]
    return _known(ids, customers, times, [line.fraud for line in known], label_delay_ms)


def _known(
    event_ids: list[str],
    customer_ids: list[str],
    times: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    truth: list[bool | None],
    label_delay_ms: int,
) -> OutcomeRun:
    """Outcomes of the events whose truth is given; null means that nobody knows."""
    rows = [row for row, fraud in enumerate(truth) if fraud is not None]
    return fixed_delay_run(
        [event_ids[row] for row in rows],
        [customer_ids[row] for row in rows],
        times[rows],
        np.array([truth[row] for row in rows], np.bool_),
        label_delay_ms,
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
        raise Fatal(f"{file}: column {name} has type {kind}; must be {_kind_of(name)}, cast it")


def _kind_of(name: str) -> str:
    kinds = {"event_time_ms": "int64 (Unix milliseconds)", "amount_minor": "int64 (minor units)", TRUTH: "bool"}
    return kinds.get(name, "string")


def _refuse_null(file: str, start: int, name: str, column: Any) -> None:
    if column.null_count:
        row = start + column.is_null().to_pylist().index(True)
        raise Fatal(f"{file}: row {row + 1}: {name}=null; every event needs it, fill it in or leave the row out")


def _numbers(file: str, start: int, name: str, column: Any) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    _refuse_null(file, start, name, column)
    numbers: np.ndarray[tuple[int, ...], np.dtype[np.int64]] = column.to_numpy(zero_copy_only=False).astype(np.int64)
    return numbers


def _header(file: Path) -> list[str]:
    with file.open("rb") as stream:
        first = stream.readline().rstrip(b"\r\n")
    try:
        names = next(csv.reader([first.decode("utf-8-sig")], strict=True), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise Fatal(f"{file}:1: {first[:60]!r} is no header line; name the columns, comma-separated") from error
    if len(set(names)) != len(names):
        raise Fatal(f"{file}:1: a column is named twice in {','.join(names)}; rename one")
    check_columns(str(file), set(names))
    return names


def _count_lines(file: Path, skip: int) -> int | None:
    if file.stat().st_size > _COUNT_BYTES_MAX:
        return None
    lines, last = 0, b"\n"
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            lines += block.count(b"\n")
            last = block[-1:]
    return lines + (last != b"\n") - skip

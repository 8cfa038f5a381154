"""A text file of one record a line as a source; see ``lines`` for what becomes of each."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from services.mesh.errors import Fatal
from services.simulator.chunk import CHUNK_RECORDS_MAX, RECORD_BYTES_MAX, Chunk, file_name, running_clock
from services.simulator.columns import ALLOWED, TEXT, TRUTH, WHOLE, OrderCheck, check_columns, kind_of
from services.simulator.lines import CsvLines, JsonLines, Line
from services.simulator.outcomes import TrueLabels, fixed_delay_run

_SAMPLE_LINES = 1_000
_COUNT_BYTES_MAX = 2_000_000_000  # counting the lines of more would keep people waiting; then no total is shown


class LinesSource:
    """A text file of one record a line."""

    history_until_ms: int | None = None

    def __init__(self, file: Path, label_delay_ms: int, lines: JsonLines | CsvLines) -> None:
        self._file, self._label_delay_ms, self._lines = file, label_delay_ms, lines
        self.name = file_name(file)
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
                truth = _truth(parsed)
                chunk = Chunk(
                    first=start,
                    clock_ms=running_clock(times, clock_ms),
                    keys=[None if line.customer_id is None else line.customer_id.encode() for line in parsed],
                    values=[line.value for line in parsed],
                    outcomes=None if truth is None else fixed_delay_run(truth, self._label_delay_ms),
                    truth=truth,
                )
                clock_ms = int(chunk.clock_ms[-1])
                yield chunk
            start += len(batch)

    def _raw_lines(self) -> Iterator[tuple[int, bytes]]:
        """(line number from 1, line without its end), blank lines left out."""
        with self._file.open("rb") as stream:
            for number, raw in enumerate(stream, 1):
                line = raw.rstrip(b"\r\n")
                if len(line) > RECORD_BYTES_MAX:
                    raise Fatal(
                        f"{self._file}:{number}: {len(line):,} bytes, over {RECORD_BYTES_MAX:,}; remove the line"
                    )
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
        # A column that some lines have is there; one that no line has is missing.
        names = {name for _, record in fields for name in record}
        check_columns(file, names & set(ALLOWED) if isinstance(self._lines, JsonLines) else names)
        for name, kind in (*((name, int) for name in WHOLE), *((name, str) for name in TEXT if name in names)):
            with_it = [(number, record[name]) for number, record in fields if record.get(name) is not None]
            if with_it and not any(type(value) is kind for _, value in with_it):
                number, value = with_it[0]
                raise Fatal(f"{file}:{number}: {name}={value!r} must be {kind_of(name)}, and no line has it right")
        order = OrderCheck(file)
        order.see(np.array([r["event_time_ms"] for _, r in fields if type(r.get("event_time_ms")) is int], np.int64))
        return TRUTH in names


def _truth(lines: Sequence[Line]) -> TrueLabels | None:
    known = [line for line in lines if line.fraud is not None and line.event_time_ms is not None]
    known = [line for line in known if line.event_id is not None and line.customer_id is not None]
    if not known:
        return None
    times = np.array([line.event_time_ms for line in known], np.int64)
    ids, customers = [line.event_id or "" for line in known], [line.customer_id or "" for line in known]
    return TrueLabels.of(ids, customers, times, [line.fraud for line in known])


def read_header(file: Path) -> list[str]:
    """Column names of a .csv; Fatal when its first line is no header."""
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

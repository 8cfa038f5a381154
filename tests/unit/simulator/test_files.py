"""Input files: what is sent from good ones, and the one line that bad ones get."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.mesh.errors import Fatal
from services.simulator.chunk import CHUNK_RECORDS_MAX, Chunk
from services.simulator.sources import open_source

DELAY_MS = 1_000
ROWS = [
    {
        "event_id": f"e{n}",
        "event_time_ms": 1_000 * n,
        "customer_id": f"c{n % 3}",
        "terminal_id": "t1",
        "amount_minor": n,
        "is_fraud": n % 4 == 0,
    }
    for n in range(20)
]
EVENTS = [{name: value for name, value in row.items() if name != "is_fraud"} for row in ROWS]


def parquet(folder: Path, rows: list[dict[str, object]] | pa.Table) -> Path:
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows)
    pq.write_table(table, folder / "in.parquet", row_group_size=7)
    return folder / "in.parquet"


def jsonl(folder: Path, rows: list[dict[str, object]]) -> Path:
    (folder / "in.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return folder / "in.jsonl"


def csv(folder: Path, rows: list[dict[str, object]]) -> Path:
    lines = [",".join(rows[0]), *(",".join(str(value) for value in row.values()) for row in rows)]
    (folder / "in.csv").write_text("\n".join(lines) + "\n")
    return folder / "in.csv"


Writer = Callable[[Path, list[dict[str, object]]], Path]
WRITERS = [parquet, jsonl, csv]


def chunks(path: Path, position: int = 0) -> list[Chunk]:
    return list(open_source(str(path), DELAY_MS).chunks(position))


def sent(path: Path) -> list[bytes]:
    return [value for chunk in chunks(path) for value in chunk.values]


@pytest.mark.parametrize("write", WRITERS)
def test_the_same_events_come_out_of_every_format(write: Writer, tmp_path: Path) -> None:
    (chunk,) = chunks(write(tmp_path, ROWS))
    assert [orjson.loads(value) for value in chunk.values] == EVENTS
    assert chunk.keys == [str(row["customer_id"]).encode() for row in ROWS]
    assert chunk.clock_ms.tolist() == [row["event_time_ms"] for row in ROWS]


@pytest.mark.parametrize("write", WRITERS)
def test_the_truth_is_split_off_and_becomes_chargebacks(write: Writer, tmp_path: Path) -> None:
    (chunk,) = chunks(write(tmp_path, ROWS))
    assert all(b"is_fraud" not in value for value in chunk.values)
    assert chunk.outcomes is not None
    outcomes = chunk.outcomes.outcomes(0, 99)
    assert [(o.event_id, o.fraud, o.observed_time_ms) for o in outcomes] == [
        (row["event_id"], row["is_fraud"], int(str(row["event_time_ms"])) + DELAY_MS) for row in ROWS
    ]


@pytest.mark.parametrize("write", WRITERS)
def test_without_the_truth_there_are_no_outcomes(write: Writer, tmp_path: Path) -> None:
    (chunk,) = chunks(write(tmp_path, EVENTS))
    assert chunk.outcomes is None
    assert [orjson.loads(value) for value in chunk.values] == EVENTS


@pytest.mark.parametrize("write", WRITERS)
def test_the_number_of_records_is_known(write: Writer, tmp_path: Path) -> None:
    assert open_source(str(write(tmp_path, ROWS)), DELAY_MS).records_expected == len(ROWS)


@pytest.mark.parametrize("write", WRITERS)
def test_reading_can_begin_anywhere(write: Writer, tmp_path: Path) -> None:
    rows = [{**EVENTS[0], "event_id": f"e{n}", "event_time_ms": n} for n in range(2 * CHUNK_RECORDS_MAX + 5)]
    found = chunks(write(tmp_path, rows), position=CHUNK_RECORDS_MAX + 1)
    assert [(chunk.first, len(chunk)) for chunk in found] == [
        (CHUNK_RECORDS_MAX, CHUNK_RECORDS_MAX),
        (2 * CHUNK_RECORDS_MAX, 5),
    ]


def test_optional_fields_travel_and_empty_ones_do_not(tmp_path: Path) -> None:
    rows = [{**EVENTS[0], "currency": "USD"}, {**EVENTS[1], "currency": None}]
    assert [orjson.loads(value) for value in sent(parquet(tmp_path, rows))] == [rows[0], EVENTS[1]]


def test_a_json_line_without_truth_is_sent_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    lines = [b'{ "event_id": "e1", "event_time_ms": 1, "customer_id": "c", "terminal_id": "t", "amount_minor": 1 }']
    path.write_bytes(b"\n".join(lines) + b"\r\n\n")
    assert sent(path) == lines


@pytest.mark.parametrize(
    "line",
    [
        b'{"event_id":"e', b"\xff\xfe", b"[1]", b'{"event_id":"x","event_time_ms":"soon","customer_id":7}',
        b'{"event_id":"x","is_fraud":"perhaps"}', b'{"amount_minor":-1,"event_time_ms":99999999999999999999}',
    ],
)  # fmt: skip
def test_a_bad_json_line_is_sent_as_it_is_and_judged_elsewhere(line: bytes, tmp_path: Path) -> None:
    path = jsonl(tmp_path, ROWS[:3])
    path.write_bytes(path.read_bytes() + line + b"\n" + orjson.dumps(ROWS[3]) + b"\n")
    (chunk,) = chunks(path)
    assert chunk.values[3] == line
    assert orjson.loads(chunk.values[4]) == EVENTS[3]
    assert chunk.outcomes is not None
    assert [o.event_id for o in chunk.outcomes.outcomes(0, 9)] == ["e0", "e1", "e2", "e3"]
    assert chunk.clock_ms.tolist() == [0, 1_000, 2_000, 2_000, 3_000]


@pytest.mark.parametrize(
    "line", ["e,1,c,t", "e,soon,c,t,1,true", 'e,1,"c,t,1,true', "e,1,c,t,1,perhaps", "e,1,c,t,1,true,9"]
)
def test_a_bad_csv_line_is_sent_as_it_is_and_hides_no_other(line: str, tmp_path: Path) -> None:
    path = csv(tmp_path, ROWS[:2])
    path.write_text(path.read_text() + line + "\n" + "e9,2000,c9,t9,9,false\n")
    values = sent(path)
    assert values[2] == line.encode()
    assert orjson.loads(values[3])["event_id"] == "e9"


def test_csv_quotes_and_byte_order_marks_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text('\ufeffevent_id,event_time_ms,customer_id,terminal_id,amount_minor\n"e,1",5,"c""x",t,1\n')
    assert orjson.loads(sent(path)[0]) == {
        "event_id": "e,1", "event_time_ms": 5, "customer_id": 'c"x', "terminal_id": "t", "amount_minor": 1
    }  # fmt: skip


def refused(path: Path) -> str:
    with pytest.raises(Fatal) as failure:
        chunks(path)
    message = str(failure.value)
    assert "\n" not in message
    return message


def without(name: str) -> list[dict[str, object]]:
    return [{key: value for key, value in row.items() if key != name} for row in ROWS]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "gone.parquet")


def test_an_unknown_extension_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "in.xlsx").write_text("x")
    assert ".xlsx; must be .parquet, .jsonl, .csv" in refused(tmp_path / "in.xlsx")


@pytest.mark.parametrize("name", ["in.parquet", "in.jsonl", "in.csv"])
def test_an_empty_file_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    assert "is empty" in refused(tmp_path / name)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.parquet").mkdir()
    assert "directory" in refused(tmp_path / "in.parquet")


@pytest.mark.parametrize("name", ["in.jsonl", "in.csv"])
def test_a_file_without_records_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(
        "event_id,event_time_ms,customer_id,terminal_id,amount_minor\n" if "csv" in name else "\n\n"
    )
    assert "no records" in refused(tmp_path / name)


def test_a_parquet_file_without_rows_is_refused(tmp_path: Path) -> None:
    assert "no rows" in refused(parquet(tmp_path, pa.Table.from_pylist(ROWS).slice(0, 0)))


def test_what_is_no_parquet_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.parquet").write_text("event_id,amount")
    assert "not a Parquet file" in refused(tmp_path / "in.parquet")


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("name", ["event_id", "event_time_ms", "customer_id", "terminal_id", "amount_minor"])
def test_a_missing_column_is_named(write: Writer, name: str, tmp_path: Path) -> None:
    assert f"no column {name}" in refused(write(tmp_path, without(name)))


@pytest.mark.parametrize("write", [parquet, csv])
def test_an_unknown_column_is_named(write: Writer, tmp_path: Path) -> None:
    assert "unknown column amount; drop or rename it" in refused(
        write(tmp_path, [{**row, "amount": 1.0} for row in ROWS])
    )


@pytest.mark.parametrize("write", WRITERS)
def test_a_column_of_the_wrong_type_is_named(write: Writer, tmp_path: Path) -> None:
    message = refused(write(tmp_path, [{**row, "amount_minor": 1.5} for row in ROWS]))
    assert "amount_minor" in message
    assert "must be int64 (minor units)" in message


def test_times_as_text_are_refused_with_an_example(tmp_path: Path) -> None:
    message = refused(jsonl(tmp_path, [{**row, "event_time_ms": "2025-01-01"} for row in ROWS]))
    assert "in.jsonl:1: event_time_ms='2025-01-01' must be int64 (Unix milliseconds)" in message


def test_a_null_in_a_parquet_row_is_named_with_its_row(tmp_path: Path) -> None:
    rows = [{**row, "terminal_id": None} if n == 12 else row for n, row in enumerate(ROWS)]
    assert "row 13: terminal_id=null" in refused(parquet(tmp_path, rows))


def test_a_file_of_garbage_is_refused_with_its_first_line(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("hello\nworld\n")
    assert "in.jsonl:1: b'hello' is no record" in refused(tmp_path / "in.jsonl")


def test_a_column_named_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("event_time_ms,customer_id,terminal_id,amount_minor,amount_minor\n1,c,t,1,2\n")
    assert "named twice" in refused(tmp_path / "in.csv")


@pytest.mark.parametrize("write", WRITERS)
def test_a_file_that_is_not_sorted_is_refused_with_the_remedy(write: Writer, tmp_path: Path) -> None:
    rows = [{**row, "event_time_ms": 3_600_000 * (20 - n)} for n, row in enumerate(ROWS)]
    message = refused(write(tmp_path, rows))
    assert "not sorted by event_time_ms" in message
    assert "sort the file" in message


@pytest.mark.parametrize("write", WRITERS)
def test_a_few_late_records_are_ingestion_s_to_judge(write: Writer, tmp_path: Path) -> None:
    rows = [{**row, "event_time_ms": 10**10 + n} for n, row in enumerate(ROWS)]
    rows[10]["event_time_ms"] = 5
    assert len(sent(write(tmp_path, rows))) == len(rows)


def test_a_line_larger_than_the_topic_takes_is_refused_with_its_number(tmp_path: Path) -> None:
    path = jsonl(tmp_path, ROWS[:3])
    path.write_bytes(path.read_bytes() + b'{"event_id":"' + b"x" * 1_100_000 + b'"}\n')
    assert "in.jsonl:4: 1,100,015 bytes" in refused(path)

"""Stopping and going on: every record and every outcome exactly once, wherever the stop was."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import orjson
import pytest

from services.mesh.errors import Fatal
from services.simulator.analysts import Analysts, Notebook
from services.simulator.chunk import Source
from services.simulator.delays import Delays
from services.simulator.dirty import DirtyRates
from services.simulator.feed import Feed
from services.simulator.ledger import Checkpoint, Ledger
from services.simulator.recovery import AlreadySent, fingerprint
from services.simulator.rhythm import DAY_MS
from services.simulator.sources import open_source
from services.simulator.state_file import StateFile
from services.simulator.world import World, WorldSettings
from services.simulator.world_source import WorldSource

END = float("inf")


def world_source() -> Source:
    world = World(WorldSettings(seed=2, customers=150, terminals=60, fraud_share=0.05))
    return WorldSource(world, Delays(label_delay_ms=DAY_MS // 2), days=8, dirty=DirtyRates.evenly(0.05))


def file_source(folder: Path) -> Source:
    path = folder / "payments.jsonl"
    path.write_text(
        "".join(
            f'{{"event_id":"e{n}","event_time_ms":{n * 60_000},"customer_id":"c{n % 7}","terminal_id":"t",'
            f'"amount_minor":1,"is_fraud":{"true" if n % 5 == 0 else "false"}}}\n'
            for n in range(20_000)
        )
    )
    return open_source(str(path), DAY_MS)


def drain(feed: Feed, records: int) -> tuple[list[bytes], list[bytes], Checkpoint | None]:
    """Send about ``records``; what was sent, what was released, and where to go on."""
    values: list[bytes] = []
    outcomes: list[bytes] = []
    checkpoint = None
    while len(values) < records and (taken := feed.take(END, 997)) is not None:
        values += taken.values
        outcomes += [outcome.value() for outcome in feed.release(taken.clock_ms[-1])]
        checkpoint = Checkpoint(position=taken.position_after, released_until_ms=taken.clock_ms[-1])
    return values, outcomes, checkpoint


@pytest.mark.parametrize("kind", ["world", "file"])
def test_a_run_in_pieces_equals_one_in_one_go(kind: str, tmp_path: Path) -> None:
    def source() -> Source:
        return world_source() if kind == "world" else file_source(tmp_path)

    whole_values, whole_outcomes, _ = drain(Feed(source()), 10**9)
    values: list[bytes] = []
    outcomes: list[bytes] = []
    checkpoint: Checkpoint | None = Checkpoint()
    while checkpoint is not None:
        feed = Feed(source(), checkpoint.position, checkpoint.released_until_ms)
        sent, released, checkpoint = drain(feed, 1_500 if kind == "world" else 9_000)
        values += sent
        outcomes += released
    assert values == whole_values
    assert outcomes == whole_outcomes
    assert len(whole_outcomes) > 1_000


def test_take_stops_at_the_limit_and_goes_on_behind_it() -> None:
    feed = Feed(world_source())
    first = feed.next_clock_ms() or 0
    taken = feed.take(first + 3_600_000, 10**6)
    assert taken is not None
    assert taken.clock_ms[-1] <= first + 3_600_000 < (feed.next_clock_ms() or 0)
    assert feed.take(taken.clock_ms[-1], 10) is None


def test_a_checkpoint_never_passes_an_unacknowledged_step() -> None:
    ledger = Ledger(Checkpoint())
    first, second = ledger.begin(10, 100, 10, 1), ledger.begin(20, 200, 10, 2)
    for step in (first, second):
        ledger.handed_over(step)
        ledger.close(step)
    ledger.acknowledged(second, ("t", 0), 50)
    assert ledger.checkpoint == Checkpoint()
    assert not ledger.idle
    ledger.acknowledged(first, ("t", 1), 7)
    assert ledger.idle
    assert ledger.checkpoint == Checkpoint(
        position=20, released_until_ms=200, sent=20, outcomes=3, offsets={("t", 0): 50, ("t", 1): 7}
    )


def test_a_step_is_open_until_all_its_batches_are_handed_over() -> None:
    ledger = Ledger(Checkpoint())
    step = ledger.begin(10, 100, 10, 0)
    ledger.handed_over(step)
    ledger.acknowledged(step, ("t", 0), 1)  # before the second batch is built
    assert not ledger.idle
    ledger.close(step)
    assert ledger.idle


def test_what_is_in_the_log_already_is_left_out_once() -> None:
    already = AlreadySent({("t", 1): Counter({fingerprint(b"a"): 1, fingerprint(b"b"): 1})})
    values = [b"a", b"b", b"a", b"c"]
    assert list(already.leave_out("t", 0, [0, 1, 2, 3], values)) == [0, 1, 2, 3]
    assert list(already.leave_out("t", 1, [0, 1, 2, 3], values)) == [2, 3]
    assert list(already.leave_out("t", 1, [0], values)) == [0]


def test_progress_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state.json"
    checkpoint = Checkpoint(position=5, released_until_ms=None, sent=5, outcomes=2, offsets={("t", 0): 3, ("u", 1): 4})
    StateFile(path).save("one", checkpoint)
    StateFile(path).save("two", Checkpoint(position=9))
    assert StateFile(path).load("one") == checkpoint
    assert StateFile(path).load("two") == Checkpoint(position=9)
    assert StateFile(path).load("three") is None


@pytest.mark.parametrize("content", ["", "not json", "[]", '{"one": {"position": "x"}}', '{"one": 1}'])
def test_damaged_progress_is_refused_with_the_remedy(content: str, tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text(content)
    with pytest.raises(Fatal, match=r"state\.json.*delete"):
        StateFile(path).load("one")


class Day:
    """A sender with analysts, a day at a time; the mesh's scores follow from the record alone."""

    def __init__(self, source: Source, checkpoint: Checkpoint | None, notebook: Notebook | None) -> None:
        start = checkpoint or Checkpoint()
        self.analysts = Analysts(4, notebook)
        self.feed = Feed(source, start.position, start.released_until_ms, self.analysts)
        self.checkpoint, self.notebook = start, self.analysts.notebook
        self.told: list[bytes] = []

    def until(self, at_ms: int, looked_at: list[bytes]) -> None:
        """Send what is before ``at_ms``; ``looked_at`` are decisions that a restart reads once more."""
        sent = list(looked_at)
        while (taken := self.feed.take(at_ms - 1, 500)) is not None:
            sent += taken.values
            self._release(taken.position_after, taken.clock_ms[-1])
        self._release(self.feed.position, at_ms - 1)
        records = [record for value in sent if isinstance(record := _record(value), dict)]
        times = np.array([record["event_time_ms"] for record in records], np.int64)
        scores = np.array([int(fingerprint(str(record).encode()).hex()[:8], 16) / 2**32 for record in records])
        self.analysts.decided([record["customer_id"] for record in records], times, scores)

    def midnight(self, at_ms: int) -> None:
        self.feed.evening(at_ms)
        self.notebook = self.analysts.notebook

    def _release(self, position: int, clock_ms: int) -> None:
        self.told += [outcome.value() for outcome in self.feed.release(clock_ms)]
        self.checkpoint = Checkpoint(position=position, released_until_ms=clock_ms)


def _record(value: bytes) -> object:
    try:
        record = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    whole = isinstance(record, dict) and type(record.get("event_time_ms")) is int and "customer_id" in record
    return record if whole and 0 <= record["event_time_ms"] < 2**52 else None


@pytest.mark.parametrize("kind", ["world", "file"])
@pytest.mark.parametrize("hour", [0, 5, 13])
def test_analysts_go_on_where_they_stopped(kind: str, hour: int, tmp_path: Path) -> None:
    def source() -> Source:
        return world_source() if kind == "world" else file_source(tmp_path)

    first = int(next(iter(source().chunks(0))).clock_ms[0]) // DAY_MS * DAY_MS
    whole, pieces = Day(source(), None, None), Day(source(), None, None)
    told: list[bytes] = []
    for day in range(1, 8):
        midnight_ms = first + day * DAY_MS
        if day == 5:  # stopped at some hour of the fifth day: what it decided by then is read from the log once more
            stop_ms = midnight_ms - DAY_MS + hour * 3_600_000
            pieces.until(stop_ms, [])
            told += pieces.told
            seen = Feed(source())
            seen.take(stop_ms - DAY_MS, 10**9)
            before: list[bytes] = []
            while (taken := seen.take(stop_ms - 1, 10**9)) is not None:
                before += taken.values
            pieces = Day(source(), pieces.checkpoint, pieces.notebook)
            pieces.until(midnight_ms, before)
        for run in (whole, pieces):
            if run is whole or day != 5:
                run.until(midnight_ms, [])
            run.midnight(midnight_ms)
    told += pieces.told
    reviews = [value for value in whole.told if b'"analyst"' in value]
    assert len(reviews) > 20
    assert Counter(told) == Counter(whole.told)

"""Stopping and going on: every record and every outcome exactly once, wherever the stop was."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from services.mesh.errors import Fatal
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

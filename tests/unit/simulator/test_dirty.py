"""Dirt is what its verdict says, and clean records stay as they were."""

from __future__ import annotations

from collections import Counter

import numpy as np
import orjson
import pytest

from services.mesh.errors import Fatal, RejectCode
from services.simulator.delays import Delays
from services.simulator.dirty import DUPLICATE, DirtyRates, Soiled, soil
from services.simulator.rhythm import DAY_MS, HOUR_MS
from services.simulator.world import World, WorldSettings
from services.simulator.world_source import WorldSource

RATES = DirtyRates(late=0.02, duplicate=0.03, conflict=0.01, malformed=0.04)


def clean() -> tuple[np.ndarray, list[bytes], list[bytes]]:
    world = World(WorldSettings(customers=2_000, terminals=500))
    (chunk,) = WorldSource(world, Delays(label_delay_ms=DAY_MS), days=1).chunks(0)
    times = np.array([orjson.loads(value)["event_time_ms"] for value in chunk.values])
    return times, [key or b"" for key in chunk.keys], chunk.values


@pytest.fixture(scope="module")
def soiled() -> Soiled:
    return soil(np.random.default_rng(1), RATES, *clean())


def verdict_of(row: int, soiled: Soiled) -> str:
    """What a checker that knows the contract says about a record, from the records before it only."""
    try:
        event = orjson.loads(soiled.values[row])
    except orjson.JSONDecodeError:
        return RejectCode.MALFORMED_JSON
    if "amuont_minor" in event:
        return RejectCode.UNKNOWN_FIELD
    for name, kind in (("event_time_ms", int), ("terminal_id", str), ("amount_minor", int)):
        if name not in event:
            return RejectCode.MISSING_FIELD
        if type(event[name]) is not kind:
            return RejectCode.WRONG_TYPE
    if event["amount_minor"] < 0:
        return RejectCode.OUT_OF_RANGE
    own = [
        orjson.loads(soiled.values[r])
        for r in range(row)
        if soiled.origin[r] >= 0 and soiled.keys[r] == soiled.keys[row]
    ]
    if own and max(e["event_time_ms"] for e in own) - event["event_time_ms"] > HOUR_MS:
        return RejectCode.LATE
    for earlier in own:
        if earlier["event_id"] == event["event_id"]:
            return DUPLICATE if earlier == event else RejectCode.CONFLICT
    return "clean"


def test_every_piece_gets_the_verdict_that_was_foretold(soiled: Soiled) -> None:
    assert len(soiled.injected) > 200
    for piece in soiled.injected:
        assert verdict_of(piece.row, soiled) == piece.verdict


def test_every_sort_of_dirt_is_there_at_its_rate(soiled: Soiled) -> None:
    n = int(np.sum(soiled.origin >= 0))
    counts = Counter(str(piece.verdict) for piece in soiled.injected)
    malformed = {"malformed_json", "wrong_type", "missing_field", "out_of_range", "unknown_field"}
    assert set(counts) == {"late", "duplicate", "conflict"} | malformed
    for verdicts, rate in (({"late"}, 0.02), ({"duplicate"}, 0.03), ({"conflict"}, 0.01), (malformed, 0.04)):
        assert sum(counts[verdict] for verdict in verdicts) / n == pytest.approx(rate, rel=0.35)


def test_clean_records_stay_in_order_and_unchanged(soiled: Soiled) -> None:
    _, keys, values = clean()
    rows = np.flatnonzero(soiled.origin >= 0)
    assert soiled.origin[rows].tolist() == list(range(len(values)))
    assert [soiled.values[row] for row in rows] == values
    assert [soiled.keys[row] for row in rows] == keys


def test_repeats_come_while_their_original_is_remembered(soiled: Soiled) -> None:
    for piece in soiled.injected:
        if piece.verdict in (DUPLICATE, RejectCode.CONFLICT):
            event_time_ms = orjson.loads(soiled.values[piece.row])["event_time_ms"]
            assert 0 <= soiled.event_time_ms[piece.row] - event_time_ms < HOUR_MS


def test_the_same_seed_makes_the_same_dirt(soiled: Soiled) -> None:
    assert soil(np.random.default_rng(1), RATES, *clean()).values == soiled.values


def test_without_rates_nothing_is_added() -> None:
    times, keys, values = clean()
    assert soil(np.random.default_rng(1), DirtyRates(), times, keys, values).values == values


def test_a_rate_above_one_is_refused() -> None:
    with pytest.raises(Fatal, match=r"late=1\.5"):
        DirtyRates(late=1.5)

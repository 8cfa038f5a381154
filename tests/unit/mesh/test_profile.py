"""Counts in batches equal counts one by one, add up over deltas, and say what they cover."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from services.mesh.bins import FeatureBins, score_bins
from services.mesh.codec import Codec
from services.mesh.ports import OutRecord
from services.mesh.profile import (
    CELLS_MAX,
    OTHER,
    SEGMENTS_MAX,
    TELL_EVERY_S,
    VALUES_MAX,
    WINDOW_MS,
    Cells,
    FieldCounts,
    ProfileWriter,
    ScoredCounts,
)

CODEC = Codec("profile.v1.avsc")
BINS = FeatureBins([[0.0, 1.0, 2.0], [0.5]])
N = 3_000


def scored(seed: int = 1) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    rows = rng.normal(1, 1, (N, 2)).astype(np.float32)
    rows[rng.random((N, 2)) < 0.1] = np.nan
    return {
        "models": rng.choice(["m-1", "m-2"], N, p=[0.9, 0.1]).tolist(),
        "scores": rng.beta(1, 20, N),
        "times": rng.integers(0, 5 * WINDOW_MS, N).tolist(),
        "channels": rng.choice(np.array(["web", "pos", None], dtype=object), N).tolist(),
        "actions": rng.choice(["approve", "review"], N, p=[0.95, 0.05]).tolist(),
        "exact": (rng.random(N) < 0.9).tolist(),
        "rows": rows,
    }


def counted(data: dict[str, Any], batch: int) -> Cells:
    counts = ScoredCounts()
    counts.model("m-1", BINS)
    for start in range(0, N, batch):
        part = slice(start, start + batch)
        counts.add(
            data["models"][part], data["scores"][part], data["times"][part], data["channels"][part],
            actions=data["actions"][part], rows=data["rows"][part], exact=data["exact"][part],
        )  # fmt: skip
    return counts.take()


@pytest.mark.parametrize("batch", [1, 37, 500, N])
def test_counts_in_batches_are_counts_one_by_one(batch: int) -> None:
    data = scored()
    found = counted(data, batch)
    records: Counter[Any] = Counter()
    inexact: Counter[Any] = Counter()
    tables: Counter[Any] = Counter()
    sums: dict[Any, float] = {}
    features: Counter[Any] = Counter()
    for i in range(N):
        place = (data["times"][i] // WINDOW_MS * WINDOW_MS, data["channels"][i] or "unknown", data["models"][i])
        records[place] += 1
        key = (*place, data["actions"][i], int(score_bins(data["scores"][i : i + 1])[0]))
        tables[key] += 1
        sums[key] = sums.get(key, 0.0) + data["scores"][i]
        if not data["exact"][i]:
            inexact[place] += 1
        elif data["models"][i] == "m-1":
            for column, edges in enumerate(([0.0, 1.0, 2.0], [0.5])):
                value = data["rows"][i, column]
                features[*place, column, len(edges) + 1 if np.isnan(value) else int(np.searchsorted(edges, value))] += 1
    assert {_place(cell): cell["records"] for cell in found.cells} == records
    assert {_place(c): c["inexact_records"] for c in found.cells if c["inexact_records"]} == inexact
    told = {
        (*_place(cell), table["action"], number): (count, total)
        for cell in found.cells
        for table in cell["scores"]
        for number, count, total in zip(table["bins"], table["counts"], table["probability_sums"], strict=True)
    }
    assert {key: count for key, (count, _) in told.items()} == tables
    assert {key: total for key, (_, total) in told.items()} == pytest.approx(sums)
    assert {
        (*_place(cell), column, number): count
        for cell in found.cells
        for column, counts in enumerate(cell["features"])
        for number, count in enumerate(counts)
        if count
    } == features
    assert found.newest_event_time_ms == max(data["times"])


def test_what_was_taken_is_not_counted_again() -> None:
    counts = ScoredCounts()
    counts.add(["m"], np.array([0.5]), [WINDOW_MS], ["web"])
    assert counts.take().cells[0]["records"] == 1
    assert counts.take() == Cells([], 0)


def test_channels_without_end_become_one_segment() -> None:
    counts = ScoredCounts()
    channels = [f"c{number}" for number in range(100)]
    counts.add(["m"] * 100, np.full(100, 0.1), [0] * 100, channels)
    segments = {cell["segment"]: cell["records"] for cell in counts.take().cells}
    assert len(segments) == SEGMENTS_MAX
    assert sum(segments.values()) == 100
    assert segments[OTHER] == 100 - (SEGMENTS_MAX - 1)


def test_fields_are_counted_with_their_nulls_and_refusals() -> None:
    fields = FieldCounts()
    keys = [(5, "web", "FR", "EUR", True), (5, "web", None, "EUR", False), (6, None, "FR", "EUR", True)]
    fields.add(keys, [(5, "web", 12), (5, "web", 12), (6, None, 3)], 6 * WINDOW_MS)
    fields.refuse("late")
    found = fields.take()
    cells = {(cell["window_start_ms"] // WINDOW_MS, cell["segment"]): cell for cell in found.cells}
    assert {place: cell["records"] for place, cell in cells.items()} == {(5, "web"): 2, (6, "unknown"): 1}
    web = {(entry["field"], entry["value"]): entry["records"] for entry in cells[5, "web"]["values"]}
    assert web == {("channel", "web"): 2, ("country", "FR"): 1, ("country", None): 1, ("currency", "EUR"): 2,
                   ("device_id", None): 1, ("device_id", "(told)"): 1}  # fmt: skip
    assert cells[5, "web"]["amounts"][12] == 2
    assert {"field": "reject_code", "value": "late", "records": 1} in cells[6, "unknown"]["values"]


def test_values_without_end_are_cut_to_the_most_frequent() -> None:
    fields = FieldCounts()
    keys = [(0, "web", f"K{number}", "EUR", True) for number in range(500)] + [(0, "web", "FR", "EUR", True)] * 9
    fields.add(keys, [(0, "web", 1)] * 509, 0)
    countries = [entry for entry in fields.take().cells[0]["values"] if entry["field"] == "country"]
    assert len(countries) == VALUES_MAX + 1
    assert countries[0] == {"field": "country", "value": "FR", "records": 9}
    assert countries[-1]["value"] == OTHER
    assert sum(entry["records"] for entry in countries) == 509


class Counted:
    """A writer with a count of its own making."""

    def __init__(self) -> None:
        self.cells = 0
        self.writer = ProfileWriter("scoring", "7", lambda: Cells([], 5), lambda: self.cells)

    def report(self, now_s: float, ends: dict[int, int], *, last: bool = False) -> dict[str, Any] | None:
        found: list[OutRecord] = self.writer.report(now_s, ends, last=last)
        assert len(found) <= 1
        return CODEC.decode(found[0].value) if found else None


def spans(profile: dict[str, Any] | None) -> list[tuple[int, int, int]]:
    assert profile is not None
    return [(span["source_partition"], span["from_offset"], span["to_offset"]) for span in profile["covered"]]


def test_a_profile_is_told_now_and_then_and_covers_what_came_between() -> None:
    counted = Counted()
    counted.writer.assign(0, 100)
    counted.writer.assign(1, 0)
    assert counted.report(0.0, {0: 110}) is None
    assert counted.report(TELL_EVERY_S / 2, {0: 120}) is None
    assert spans(counted.report(TELL_EVERY_S, {0: 130})) == [(0, 100, 130)]
    assert counted.report(TELL_EVERY_S * 1.5, {1: 10}) is None
    assert spans(counted.report(TELL_EVERY_S * 2, {})) == [(1, 0, 10)], "also between two batches"
    assert counted.report(TELL_EVERY_S * 9, {}) is None, "nothing new, nothing told"


def test_a_profile_is_told_at_the_end_and_before_it_grows_too_large() -> None:
    counted = Counted()
    counted.writer.assign(0, 0)
    assert counted.report(0.0, {0: 5}) is None
    counted.cells = CELLS_MAX
    assert spans(counted.report(0.1, {0: 8})) == [(0, 0, 8)]
    counted.cells = 0
    assert counted.report(0.2, {0: 9}) is None
    assert spans(counted.report(0.3, {}, last=True)) == [(0, 8, 9)]


def test_a_partition_that_left_is_covered_and_one_that_came_back_begins_where_it_is() -> None:
    counted = Counted()
    counted.writer.assign(0, 0)
    assert counted.report(0.0, {0: 5}) is None
    counted.writer.revoke(0)
    counted.writer.assign(0, 40)
    assert spans(counted.report(TELL_EVERY_S, {0: 44})) == [(0, 0, 5), (0, 40, 44)]


def _place(cell: Any) -> tuple[int, str, str]:
    return cell["window_start_ms"], cell["segment"], cell["model_version"]

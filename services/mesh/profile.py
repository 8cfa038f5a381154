"""Counting in the hot path, and telling it: profiles are deltas that anybody may add up.

A stage counts what it handles and emits the counts in its own transaction, so counts and outputs are durable together.
What it counted since is lost when it dies; each profile therefore names the stretches of the input that it covers, and
whoever merges sees the hole. Counting waits until a thousand records have gathered, because numpy's price is by call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.mesh.bins import AMOUNT_BINS, SCORE_BINS, FeatureBins, score_bins
from services.mesh.codec import Codec
from services.mesh.ports import OutRecord
from services.mesh.records import Covered, ProfileCell, ScoreTable, ValueCount
from services.mesh.topics import PROFILES

WINDOW_MS: Final = 3_600_000
# Half of what drift may lag in wall time; at 6,000/s one profile then stands for 12,000 events a stage.
TELL_EVERY_S: Final = 2.0
# A cell of 40 features is about 1 kB: far below the topic's limit on one record.
CELLS_MAX: Final = 400
GATHERED_ROWS: Final = 1_024
SEGMENTS_MAX: Final = 16
VALUES_MAX: Final = 64
VALUE_CHARACTERS_MAX: Final = 32
UNKNOWN: Final = "unknown"
OTHER: Final = "(other)"

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


FieldKey = tuple[int, str | None, str | None, str, bool]
"""Of an accepted event: window number, channel, country, currency, whether it has no device_id."""
AmountKey = tuple[int, str | None, int]
"""Of an accepted event: window number, channel, binary digits of amount_minor."""


class Cells(NamedTuple):
    """What was counted since the last time: the cells, and the latest event time among them (0: none)."""

    cells: list[ProfileCell]
    newest_event_time_ms: int


class ProfileWriter:
    """Decides when to tell, and knows what is covered. ``take`` hands over the counts and starts from zero."""

    def __init__(self, subject: str, instance: str, take: Callable[[], Cells], cells: Callable[[], int]) -> None:
        self._subject, self._instance = subject, instance
        self._take, self._cells = take, cells
        self._codec = Codec(PROFILES.schemas[0])
        self._starts: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._closed: list[Covered] = []  # of partitions that left with counts untold
        self._told_s: float | None = None

    def assign(self, partition: int, offset: int) -> None:
        """The next record of ``partition`` is the one at ``offset``."""
        self._starts[partition] = self._ends[partition] = offset

    def revoke(self, partition: int) -> None:
        """Another process goes on with ``partition``; what was counted of it is told with the rest."""
        start, end = self._starts.pop(partition, 0), self._ends.pop(partition, 0)
        if end > start:
            self._closed.append({"source_partition": partition, "from_offset": start, "to_offset": end})

    def report(self, now_s: float, ends: Mapping[int, int], *, last: bool) -> list[OutRecord]:
        """The profile that is due now, if one is. ``ends``: partition -> where the batch at hand ends."""
        for partition, end in ends.items():
            self._starts.setdefault(partition, end)
            self._ends[partition] = end
        if self._told_s is None:
            self._told_s = now_s
        if not (last or now_s - self._told_s >= TELL_EVERY_S or self._cells() >= CELLS_MAX):
            return []
        self._told_s = now_s
        covered = self._covered()
        if not covered:
            return []
        cells, newest_ms = self._take()
        value = self._codec.encode(
            {
                "subject": self._subject,
                "instance": self._instance,
                "window_ms": WINDOW_MS,
                "newest_event_time_ms": newest_ms,
                "covered": covered,
                "cells": cells,
            }
        )
        return [OutRecord(PROFILES.name, self._subject.encode(), value, None, [])]

    def _covered(self) -> list[Covered]:
        covered, self._closed = self._closed, []
        for partition, start in self._starts.items():
            if (end := self._ends[partition]) > start:
                covered.append({"source_partition": partition, "from_offset": start, "to_offset": end})
                self._starts[partition] = end
        return covered


class Segments:
    """Channel -> number and name; beyond SEGMENTS_MAX they are one."""

    def __init__(self) -> None:
        self.names = [UNKNOWN]
        self._numbers: dict[str | None, int] = {None: 0, UNKNOWN: 0}

    def numbers(self, channels: Sequence[str | None]) -> Counts:
        """Number of each channel's segment: int64, shape (n,)."""
        known = self._numbers
        try:
            return np.array([known[channel] for channel in channels], dtype=np.int64)
        except KeyError:
            for channel in dict.fromkeys(channels):
                if channel is not None and channel not in known:
                    self._learn(channel)
            return np.array([known.get(channel, SEGMENTS_MAX) for channel in channels], dtype=np.int64)

    def name(self, channel: str | None) -> str:
        """Name of one channel's segment."""
        if channel is not None and channel not in self._numbers:
            self._learn(channel)
        return self.names[self._numbers.get(channel, SEGMENTS_MAX)]

    def _learn(self, channel: str) -> None:
        if len(self.names) < SEGMENTS_MAX:
            self._numbers[channel] = len(self.names)
            self.names.append(channel[:VALUE_CHARACTERS_MAX])
        elif len(self.names) == SEGMENTS_MAX:
            self.names.append(OTHER)


class _Batch(NamedTuple):
    """Rows of one batch, of one length; rows float32, shape (n, f), or None where features are not counted."""

    models: Sequence[str]
    actions: Sequence[str]
    scores: Floats
    event_times_ms: Sequence[int]
    channels: Sequence[str | None]
    rows: npt.NDArray[np.float32] | None
    exact: Sequence[bool]


class _Place(NamedTuple):
    window: int
    segment: int
    model: str


class ScoredCounts:
    """Counts vectors and scores (scoring), or scores by action (decisions), by window, segment and model."""

    def __init__(self) -> None:
        self._segments = Segments()
        self._bins: dict[str, FeatureBins] = {}
        self._waiting: list[_Batch] = []
        self._waiting_rows = 0
        # counts, sums of p, sums of p (1 - p): float64, shape (3, SCORE_BINS); counts are exact below 2^53
        self._scores: dict[tuple[_Place, str], Floats] = {}
        self._features: dict[_Place, Counts] = {}
        self._inexact: Counter[_Place] = Counter()
        self._newest_ms = 0

    def __len__(self) -> int:
        """Cells so far."""
        return len(self._scores)

    def model(self, version: str, bins: FeatureBins | None) -> None:
        """Features of what ``version`` scores are counted in ``bins``; None: not counted."""
        if bins is not None:
            self._bins[version] = bins

    def add(
        self,
        models: Sequence[str],
        scores: Floats,
        event_times_ms: Sequence[int],
        channels: Sequence[str | None],
        *,
        actions: Sequence[str] = (),
        rows: npt.NDArray[np.float32] | None = None,
        exact: Sequence[bool] = (),
    ) -> None:
        """One batch of n: who scored, the scores (float64), and what is known of each event.

        rows: float32, shape (n, f), counted where ``exact``; a view is kept until it is counted.
        """
        self._waiting.append(
            _Batch(models, actions or [""] * len(models), scores, event_times_ms, channels, rows, exact)
        )
        self._waiting_rows += len(scores)
        if self._waiting_rows >= GATHERED_ROWS:
            self._fold()

    def take(self) -> Cells:
        """All counts so far; counting starts from zero."""
        self._fold()
        cells: dict[_Place, ProfileCell] = {}
        for (place, action), table in self._scores.items():
            if place not in cells:
                cells[place] = self._cell(place)
            cells[place]["records"] += int(table[0].sum())
            cells[place]["scores"].append(_table(action, table))
        found = Cells(list(cells.values()), self._newest_ms)
        self._scores, self._features, self._newest_ms = {}, {}, 0
        self._inexact.clear()
        return found

    def _cell(self, place: _Place) -> ProfileCell:
        counts = self._features.get(place)
        return {
            "window_start_ms": place.window * WINDOW_MS,
            "segment": self._segments.names[place.segment],
            "model_version": place.model,
            "records": 0,
            "inexact_records": self._inexact[place],
            "features": [] if counts is None else [part.tolist() for part in self._bins[place.model].split(counts)],
            "scores": [],
            "values": [],
            "amounts": [],
        }

    def _fold(self) -> None:
        """Count what waits: one code a row for (window, segment, model, action), then a few numpy calls for all."""
        if not self._waiting_rows:
            return
        waiting, self._waiting, self._waiting_rows = self._waiting, [], 0
        pairs = [pair for batch in waiting for pair in zip(batch.models, batch.actions, strict=True)]
        numbers = {pair: number for number, pair in enumerate(dict.fromkeys(pairs))}
        named = list(numbers)
        times = np.array([time for batch in waiting for time in batch.event_times_ms], dtype=np.int64)
        segments = self._segments.numbers([channel for batch in waiting for channel in batch.channels])
        scores = np.concatenate([batch.scores for batch in waiting])
        self._newest_ms = max(self._newest_ms, int(times.max()))
        codes = (times // WINDOW_MS * (SEGMENTS_MAX + 1) + segments) * len(named)
        groups, group = np.unique(
            codes + np.array([numbers[pair] for pair in pairs], dtype=np.int64), return_inverse=True
        )
        keys = []
        for code in groups.tolist():
            rest, pair = divmod(code, len(named))
            window, segment = divmod(rest, SEGMENTS_MAX + 1)
            keys.append((_Place(window, segment, named[pair][0]), named[pair][1]))
        self._fold_scores(keys, group, scores)
        if waiting[0].rows is not None:
            self._fold_features([place for place, _ in keys], group, waiting)

    def _fold_scores(self, keys: list[tuple[_Place, str]], group: Counts, scores: Floats) -> None:
        flat, size = group * SCORE_BINS + score_bins(scores), len(keys) * SCORE_BINS
        tables = np.stack(
            [np.bincount(flat, weights=weights, minlength=size) for weights in (None, scores, scores * (1 - scores))]
        ).reshape(3, -1, SCORE_BINS)
        for row, key in enumerate(keys):
            held = self._scores.get(key)
            if held is None:
                self._scores[key] = tables[:, row].astype(np.float64)
            else:
                held += tables[:, row]

    def _fold_features(self, places: list[_Place], group: Counts, waiting: list[_Batch]) -> None:
        rows = np.concatenate([batch.rows for batch in waiting if batch.rows is not None])
        exact = np.array([flag for batch in waiting for flag in batch.exact], dtype=np.bool_)
        if not exact.all():
            for number, count in enumerate(np.bincount(group[~exact], minlength=len(places)).tolist()):
                self._inexact[places[number]] += count
        models = dict.fromkeys(place.model for place in places)
        for model in models:
            bins = self._bins.get(model)
            if bins is None:
                continue
            mine = exact
            if len(models) > 1:
                mine = exact & np.array([place.model == model for place in places])[group]
            flat = bins.places(rows if mine.all() else rows[mine]) + group[mine, None] * bins.total
            counts = np.bincount(flat.ravel(), minlength=len(places) * bins.total).reshape(-1, bins.total)
            for number, place in enumerate(places):
                if place.model == model:
                    held = self._features.get(place)
                    if held is None:
                        self._features[place] = counts[number].copy()
                    else:
                        held += counts[number]


class FieldCounts:
    """Counts optional fields and amounts of accepted events, and causes of refused ones (ingestion)."""

    FIELDS: Final = ("channel", "country", "currency", "device_id")

    def __init__(self) -> None:
        self._seen: Counter[FieldKey] = Counter()
        self._amounts: Counter[AmountKey] = Counter()
        self._refused: Counter[tuple[int, str]] = Counter()
        self._segments = Segments()
        self._newest_ms = 0

    def __len__(self) -> int:
        """Distinct combinations so far: what limits memory here."""
        return len(self._seen) // 16

    def add(self, keys: Sequence[FieldKey], amounts: Sequence[AmountKey], newest_event_time_ms: int) -> None:
        """Of one batch, both keys of each accepted event, and the latest of their times."""
        self._seen.update(keys)
        self._amounts.update(amounts)
        self._newest_ms = max(self._newest_ms, newest_event_time_ms)

    def refuse(self, code: str) -> None:
        """One record was refused; it counts where the stream is."""
        self._refused[self._newest_ms // WINDOW_MS, code] += 1

    def take(self) -> Cells:
        """All counts so far; counting starts from zero."""
        cells: dict[tuple[int, str], ProfileCell] = {}
        values: dict[tuple[int, str], dict[str, Counter[str | None]]] = {}
        for (window, channel, country, currency, no_device), count in self._seen.items():
            key = (window, self._segments.name(channel))
            if key not in cells:
                cells[key] = _empty(*key)
                values[key] = {field: Counter() for field in self.FIELDS}
            cells[key]["records"] += count
            told = (channel, country, currency, None if no_device else "(told)")
            for counts, value in zip(values[key].values(), told, strict=True):
                counts[value] += count
        for (window, channel, digits), count in self._amounts.items():
            cells[window, self._segments.name(channel)]["amounts"][min(digits, AMOUNT_BINS - 1)] += count
        for (window, code), count in self._refused.items():
            key = (window, UNKNOWN)
            if key not in cells:
                cells[key] = _empty(*key)
            values.setdefault(key, {}).setdefault("reject_code", Counter())[code] += count
        for key, cell in cells.items():
            cell["values"] = [entry for field, counts in values[key].items() for entry in _values(field, counts)]
        found = Cells(list(cells.values()), self._newest_ms)
        self._seen, self._amounts, self._refused = Counter(), Counter(), Counter()
        return found


def _empty(window: int, segment: str) -> ProfileCell:
    return {
        "window_start_ms": window * WINDOW_MS, "segment": segment, "model_version": "", "records": 0,
        "inexact_records": 0, "features": [], "scores": [], "values": [], "amounts": [0] * AMOUNT_BINS,
    }  # fmt: skip


def _values(field: str, counts: Counter[str | None]) -> list[ValueCount]:
    kept = counts.most_common(VALUES_MAX)
    rest = counts.total() - sum(count for _, count in kept)
    found: list[ValueCount] = [
        {"field": field, "value": None if value is None else value[:VALUE_CHARACTERS_MAX], "records": count}
        for value, count in kept
    ]
    return [*found, {"field": field, "value": OTHER, "records": rest}] if rest else found


def _table(action: str, table: Floats) -> ScoreTable:
    bins = np.flatnonzero(table[0])
    return {
        "action": action,
        "bins": bins.tolist(),
        "counts": table[0, bins].astype(np.int64).tolist(),
        "probability_sums": table[1, bins].tolist(),
        "variance_sums": table[2, bins].tolist(),
    }

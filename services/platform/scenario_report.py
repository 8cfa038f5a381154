"""What the scenario's runs were worth: rows, moments, and whether the targets hold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq

from services.platform.judging import MOMENTS, RECORDING
from services.platform.moments import shown
from services.platform.scenario_plan import PER_DAY, WORLDS, Run, WorldName
from services.platform.worth import DAY_MS, Week, weeks_of
from services.simulator.fraud import Kind
from services.simulator.world import World, WorldSettings
from services.simulator.worlds import DRIFT, DRIFT_SHIFT_DAY, world_named

# Whole weeks before the shift that are shown: before them the first model is not trained yet.
WEEKS_BEFORE = 1
BEFORE_MIN, FROZEN_MAX, LOOP_MIN = 0.96, 0.90, 0.93
# A score that was recorded, and the same computed once more from the recorded vector.
SAME_SCORE_MAX = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One week of one world of one seed."""

    seed: int
    world: WorldName
    worth: Week
    labelled: int  # outcomes that became labels in that week


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A moment of one world of one seed."""

    seed: int
    world: WorldName
    time_ms: int
    day: float  # since the shift
    kind: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All rows and moments, and how exact the runs were."""

    rows: Sequence[Row]
    events: Sequence[Event]
    runs: Sequence[dict[str, object]]

    @property
    def is_exact(self) -> bool:
        """No run lost or doubled a decision."""
        return not any(run["missing"] or run["duplicates"] for run in self.runs)

    def as_json(self, seconds: float) -> dict[str, object]:
        """``summary.json``."""
        return {
            "scenario": {
                "name": DRIFT,
                "weeks": [
                    {
                        "seed": row.seed,
                        "world": row.world,
                        "week": row.worth.week,
                        "precision": round(row.worth.precision, 4),
                        "recall": round(row.worth.recall, 4),
                        "average_precision": round(row.worth.average_precision, 4),
                        "money_saved": round(row.worth.money_saved, 2),
                        "labelled": row.labelled,
                        "payments": row.worth.payments,
                        "frauds": row.worth.frauds,
                        "fraud_value": round(row.worth.fraud_value, 2),
                    }
                    for row in self.rows
                ],
                "moments": [
                    {
                        "seed": event.seed,
                        "world": event.world,
                        "virtual_time": shown(event.time_ms),
                        "kind": event.kind,
                        "detail": event.detail,
                    }
                    for event in self.events
                ],
                "runs": list(self.runs),
                "checks": checks(self),
            },
            "seconds": round(seconds, 1),
        }


def judged(runs: Sequence[Run]) -> Report:
    """Read what the runs left, and hold it against the truth."""
    rows: list[Row] = []
    events: list[Event] = []
    told: list[dict[str, object]] = []
    for run in runs:
        truth = _Truth(run.seed)
        table = pq.read_table(run.folder / RECORDING)
        left = json.loads((run.folder / MOMENTS).read_text())
        recorded = {name: table[name].to_numpy() for name in ("event_time_ms", "amount_minor", "score")}
        frozen, served = table["first_model_score"].to_numpy(), table["model_version"].to_numpy()
        fraud = truth.of(table["event_id"].to_pylist())
        summary = json.loads((run.folder / "summary.json").read_text())
        same = served == left["first_model"]
        difference = float(np.abs(recorded["score"] - frozen)[same].max(initial=0.0))
        if difference > SAME_SCORE_MAX:
            raise AssertionError(f"{run.name}: recorded and recomputed scores differ by {difference:.2g}")
        told.append(
            {
                "seed": run.seed,
                "world": run.world,
                **{name: summary[name] for name in ("events_in", "decisions", "missing", "duplicates", "labels")},
                "first_model": left["first_model"],
                "recorded_scores_recomputed": int(same.sum()),
                "difference_max": difference,
                "seconds": round(run.seconds, 1),
            }
        )
        labelled_ms = np.array(left["labelled_ms"], np.int64)
        worlds: dict[WorldName, np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = {run.world: recorded["score"]}
        if run.world == "weekly":
            worlds["frozen"] = frozen
        for world, score in worlds.items():
            for week in weeks_of(
                recorded["event_time_ms"],
                recorded["amount_minor"],
                fraud,
                score,
                zero_ms=truth.shift_ms,
                per_day=PER_DAY,
            ):
                if week.week >= -WEEKS_BEFORE:
                    begin_ms = truth.shift_ms + week.week * 7 * DAY_MS
                    new = (labelled_ms >= begin_ms) & (labelled_ms < begin_ms + 7 * DAY_MS)
                    rows.append(Row(seed=run.seed, world=world, worth=week, labelled=int(new.sum())))
            events.append(_event(run.seed, world, truth, truth.shift_ms, "shift", f"day {DRIFT_SHIFT_DAY}"))
        for time_ms, kind, detail in left["moments"]:
            events.append(_event(run.seed, run.world, truth, time_ms, kind, detail))
    order = {world: place for place, world in enumerate(WORLDS)}
    rows.sort(key=lambda row: (row.seed, order[row.world], row.worth.week))
    events.sort(key=lambda event: (event.seed, order[event.world], event.time_ms))
    return Report(rows=rows, events=events, runs=told)


def checks(report: Report) -> list[dict[str, object]]:
    """The targets, each seed by itself: what was asked, what came."""
    found: list[dict[str, object]] = []
    for seed in sorted({row.seed for row in report.rows}):
        mine = [row for row in report.rows if row.seed == seed]
        before = min(row.worth.precision for row in mine if row.worth.week < 0)
        frozen = max(
            (row.worth.precision for row in mine if row.world == "frozen" and row.worth.week >= 2), default=0.0
        )
        alert = min(
            (e.day for e in report.events if e.seed == seed and e.world == "loop" and e.kind == "alert" and e.day >= 0),
            default=None,
        )
        since = [
            row.worth.precision
            for row in mine
            if row.world == "loop" and row.worth.week >= 0 and (alert is None or row.worth.week * 7 >= alert - 6)
        ]
        found.append(
            {
                "seed": seed,
                "before_shift_lowest": round(before, 4),
                "frozen_after_two_weeks_highest": round(frozen, 4),
                "first_alert_day": None if alert is None else round(alert, 1),
                "loop_since_alert_lowest": round(min(since, default=float("nan")), 4),
                "holds": bool(before >= BEFORE_MIN and frozen <= FROZEN_MAX and min(since, default=0.0) >= LOOP_MIN),
            }
        )
    return found


class _Truth:
    """What the simulator knows, asked when everything is over."""

    def __init__(self, seed: int) -> None:
        self._world = World(world_named(DRIFT, WorldSettings(seed=seed)))
        self._days: dict[int, np.ndarray[tuple[int, ...], np.dtype[np.bool_]]] = {}
        self.shift_ms = self._world.day_start_ms(DRIFT_SHIFT_DAY)

    def of(self, event_ids: Sequence[str]) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        """Whether each was fraud."""
        fraud = np.empty(len(event_ids), np.bool_)
        for row, event_id in enumerate(event_ids):
            _, day, number = event_id.split("-")
            fraud[row] = self._day(int(day))[int(number)]
        return fraud

    def _day(self, day: int) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        if day not in self._days:
            self._days[day] = self._world.day(day)[1].kind != Kind.GENUINE
        return self._days[day]


def _event(seed: int, world: WorldName, truth: _Truth, time_ms: int, kind: str, detail: str) -> Event:
    day = (time_ms - truth.shift_ms) / DAY_MS
    return Event(seed=seed, world=world, time_ms=time_ms, day=day, kind=kind, detail=detail)

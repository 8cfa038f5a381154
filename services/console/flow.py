"""From what processes and the broker say to one row a stage: rate, lag, health, what was refused. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from services.console.exposition import samples
from services.console.processes import Answer
from services.mesh.topology import PARTICIPANTS, STAGES, Stage, owner_of

# Who has a process of its own beside the stages. The console does not watch itself; the sender has no health.
BESIDE: Final = tuple(who.name for who in PARTICIPANTS if who.name not in ("console", "simulator", "deploy"))
_ACTIONS: Final = "weir_actions_total"
_REJECTS: Final = "weir_rejects_total"
_STATUS: Final = "weir_feature_status_total"
_AGE: Final = "weir_input_age_seconds"
_SIMPLE: Final = {
    "weir_step_seconds_sum": "step_s",
    "weir_commit_seconds_sum": "commit_s",
    "weir_commit_seconds_count": "commits",
    "weir_repeats_total": "repeats",
    "weir_reopens_total": "reopens",
    "weir_duplicates_total": "duplicates",
    "weir_state_unreachable": "unreachable",
    "weir_fuses_open": "fuses_open",
    "weir_reviews_over_budget_total": "over_budget",
    "weir_drift_alerts_open": "alerts_open",
    "weir_outcomes_waiting": "outcomes_waiting",
}
_WANTED: Final = frozenset({_ACTIONS, _REJECTS, _STATUS, _AGE, *_SIMPLE})


@dataclass(slots=True)
class Numbers:
    """What all instances of one stage say together."""

    instances: int = 0
    answering: int = 0
    ready: int = 0
    records: int = 0
    halted: str = ""
    last_error: str = ""
    age_s: float = 0.0
    event_time_ms: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    actions: Counter[str] = field(default_factory=Counter)
    rejects: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    sums: Counter[str] = field(default_factory=Counter)


class Flow:
    """Turns counters into rates: what a process counted since the look before. A restart counts from zero."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[float, int, Counter[str]]] = {}

    def rows(self, answers: Iterable[Answer], lags: Mapping[str, int] | None, now_s: float) -> list[dict[str, Any]]:
        """A row for each stage in the order of the flow, then one for each process beside them."""
        numbers = numbers_of(answers)
        return [
            *(self._stage(stage, numbers.get(stage.name, Numbers()), lags, now_s) for stage in STAGES),
            *(_beside(name, numbers[name]) for name in BESIDE if name in numbers),
        ]

    def _stage(self, stage: Stage, numbers: Numbers, lags: Mapping[str, int] | None, now_s: float) -> dict[str, Any]:
        rate, actions = self._rates(stage.name, numbers, now_s)
        row = _row(stage.name, numbers) | {
            "kind": "stage",
            "inputs": [topic.name for topic in stage.inputs],
            "outputs": [topic.name for topic in stage.produces],
            "state": stage.state,
            "rate_per_s": rate,
            "lag": None if lags is None else lags.get(stage.name),
            "age_ms": round(1_000 * numbers.age_s),
            "step_us": _per(1e6 * numbers.sums["step_s"], numbers.records),
            "commit_ms": _per(1e3 * numbers.sums["commit_s"], numbers.sums["commits"]),
        }
        if numbers.actions:
            row |= {"actions": dict(numbers.actions), "actions_per_s": actions}
        return row

    def _rates(self, name: str, numbers: Numbers, now_s: float) -> tuple[float | None, dict[str, float]]:
        """None where there is nothing to compare with yet."""
        before = self._before.get(name)
        if numbers.answering:
            self._before[name] = (now_s, numbers.records, Counter(numbers.actions))
        if before is None or not numbers.answering or now_s <= before[0]:
            return None, {}
        passed_s, was, acted = now_s - before[0], before[1], before[2]
        more = numbers.records - was if numbers.records >= was else numbers.records
        new = {
            action: max(0, count - acted[action] if count >= acted[action] else count)
            for action, count in numbers.actions.items()
        }
        return round(more / passed_s, 1), {action: round(count / passed_s, 2) for action, count in new.items()}


def numbers_of(answers: Iterable[Answer]) -> dict[str, Numbers]:
    """By stage or process, summed over instances."""
    found: dict[str, Numbers] = {}
    for answer in answers:
        numbers = found.setdefault(owner_of(answer.instance), Numbers())
        numbers.instances += 1
        if answer.progress is None:
            continue
        numbers.answering += 1
        _add_progress(numbers, answer.progress)
        _add_metrics(numbers, answer.metrics or "")
    return found


def _add_progress(numbers: Numbers, said: Mapping[str, Any]) -> None:
    numbers.ready += bool(said.get("ready"))
    numbers.records += int(said.get("records", 0))
    numbers.halted = numbers.halted or str(said.get("halted", ""))
    numbers.last_error = numbers.last_error or str(said.get("last_error", ""))
    numbers.event_time_ms = max(numbers.event_time_ms, int(said.get("event_time_ms", 0)))
    numbers.versions |= {str(what): str(version) for what, version in dict(said.get("versions", {})).items()}


def _add_metrics(numbers: Numbers, text: str) -> None:
    for name, labels, value in samples(text, _WANTED):
        if name == _ACTIONS:
            numbers.actions[labels["action"]] += int(value)
        elif name == _REJECTS:
            numbers.rejects[labels["code"]] += int(value)
        elif name == _STATUS:
            numbers.statuses[labels["status"]] += int(value)
        elif name == _AGE:
            numbers.age_s = max(numbers.age_s, value)
        else:
            numbers.sums[_SIMPLE[name]] += value  # type: ignore[assignment]  # a Counter of seconds


def _row(name: str, numbers: Numbers) -> dict[str, Any]:
    return {
        "name": name,
        "instances": numbers.instances,
        "ready": numbers.ready,
        "health": health_of(numbers),
        "halted": numbers.halted,
        "last_error": numbers.last_error if numbers.ready < numbers.instances else "",
        "records": numbers.records,
        "versions": numbers.versions,
        "rejects": dict(numbers.rejects),
        "statuses": dict(numbers.statuses),
        "notes": _notes(numbers),
    }


def _beside(name: str, numbers: Numbers) -> dict[str, Any]:
    del numbers.sums["repeats"]  # drift is handed what a restarted stage tells twice: that is how it works
    return _row(name, numbers) | {"kind": "beside", "event_time_ms": numbers.event_time_ms}


def health_of(numbers: Numbers) -> str:
    """``up``, ``partly`` (some instances), ``halted``, ``starting`` (answers, not ready), ``down`` or ``absent``."""
    if numbers.halted:
        return "halted"
    if not numbers.instances:
        return "absent"
    if not numbers.answering:
        return "down"
    if not numbers.ready:
        return "starting"
    return "up" if numbers.ready == numbers.instances else "partly"


def _notes(numbers: Numbers) -> list[str]:
    """What a person should know beside the numbers."""
    notes = []
    if count := int(numbers.sums["unreachable"]):
        notes.append(f"{count} partitions have no state within reach: their events are decided by fallback")
    if count := int(numbers.sums["fuses_open"]):
        notes.append(f"{count} fuses of rules are blown: what they hit goes to people")
    if count := int(numbers.sums["repeats"]):
        notes.append(f"{count:,} repeats were dropped by the second line of defence")
    if count := int(numbers.sums["outcomes_waiting"]):
        notes.append(f"{count:,} outcomes wait for their decision")
    return notes


def _per(total: float, count: float) -> float | None:
    return round(total / count, 1) if count else None


def totals(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mesh in a few numbers: what the page's head and the histories show."""
    stages = [row for row in rows if row["kind"] == "stage"]
    lags = [row["lag"] for row in stages if row["lag"] is not None]
    by_name = {row["name"]: row for row in stages}
    rejects: Counter[str] = Counter()
    for row in stages:
        rejects.update(row["rejects"])
    unwell = [row["name"] for row in rows if row["health"] not in ("up",)]
    return {
        "decided_per_s": by_name["decisions"]["rate_per_s"],
        "actions_per_s": by_name["decisions"].get("actions_per_s", {}),
        "lag": sum(lags) if lags else None,
        "rejects": dict(rejects),
        "unwell": unwell,
    }

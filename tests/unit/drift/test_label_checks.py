"""Which labels a model answers for."""

from __future__ import annotations

from collections import Counter
from typing import Any

from loadtests.drift_world import MODEL, START_DAY, World, known_model
from services.drift.days import Days
from services.drift.finding import Finding
from services.drift.label_checks import check_labels
from services.drift.labels import LabelBook
from services.drift.references import KnownModel, Models
from services.mesh.reference import DAY_MS

BUDGET, RATE = 20, 0.01


class OneModel(Models):
    """Models of which one is known."""

    def __init__(self, known: KnownModel) -> None:
        super().__init__()
        self._one = known

    def get(self, version: str) -> KnownModel | None:
        return self._one if version == self._one.version else None


class ScoredDays(Days):
    """A day's events by model, as scoring tells of them."""

    def __init__(self, by_day: dict[int, dict[str, int]]) -> None:
        super().__init__()
        self._by_day = by_day

    def models(self, stage: str, day: int) -> Any:
        return Counter(self._by_day.get(day, {}))


def findings(*days: tuple[str, float]) -> list[Finding]:
    """Of days that each were decided by a model, whose highest scores were fraud to a share; looked at in the end."""
    book, scored = LabelBook(BUDGET, 7 * DAY_MS), {}
    for number, (model, share) in enumerate(days, START_DAY):
        scored[number] = {model: 500}
        for place in range(BUDGET):
            book.add(
                {  # type: ignore[typeddict-item]
                    "event_id": f"{number}-{place}", "customer_id": "c", "event_time_ms": number * DAY_MS + place,
                    "score": 0.99, "model_version": model, "label": "fraud" if place < share * BUDGET else "genuine",
                    "label_version": 1, "label_source": "analyst", "observed_time_ms": (number + 1) * DAY_MS,
                    "label_age_ms": DAY_MS,
                }
            )  # fmt: skip
    end = START_DAY + len(days)
    scored[end] = {days[-1][0]: 500}
    now_ms = (end + 1) * DAY_MS
    return [
        finding
        for finding in check_labels(ScoredDays(scored), book, now_ms, OneModel(known_model(World(1, 500))), RATE)
        if finding.family == "precision"
    ]


def test_a_model_does_not_answer_for_days_before_it() -> None:
    assert findings(("bootstrap", 0.0), (MODEL, 1.0), (MODEL, 1.0)) == []
    assert findings(("bootstrap", 0.0), ("bootstrap", 0.0), ("bootstrap", 0.0)) == []


def test_it_answers_for_its_own() -> None:
    (fine,) = findings(("bootstrap", 0.0), (MODEL, 1.0), (MODEL, 1.0), (MODEL, 1.0))
    assert (fine.value, fine.matters) == (1.0, False)
    (worse,) = findings(("bootstrap", 1.0), (MODEL, 0.5), (MODEL, 0.5), (MODEL, 0.5))
    assert (worse.value, worse.matters) == (0.5, True)
    assert worse.p_value < RATE

"""The summary: every key that people rely on, also when there was nothing to count or no time to count it."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from typing import Any

from services.platform.latency import LatencyCounts
from services.platform.outcome_account import OutcomeLedger
from services.platform.scan import Ledger
from services.platform.summary import ServedModel, Summary, to_json, to_text

LEDGER = Ledger(
    events_in=110, accepted=100, decisions=99, missing=1, duplicates=2, strangers=3, dead_letters=6, raw_rejects=6,
    rejects=Counter({"conflict": 4, "late": 2}), undecided=5, unjudged=1,
    outcomes=OutcomeLedger(
        outcomes_in=9, accepted=8, labels=12, matured=7, joined=5, pending=2, unjudged=1, doubled=3, lost=1,
        orphans=Counter({"no_decision": 1}), strangers=1,
    ),
)  # fmt: skip
MODELS = [
    ServedModel(version="bootstrap", from_event_time_ms=1_735_689_600_000, why="no model yet"),
    ServedModel(version="20250301-ab", from_event_time_ms=1_740_787_200_000, why="trained on 5 matured events"),
]


def summary(ledger: Ledger | None = LEDGER, **changed: Any) -> Summary:
    given: dict[str, Any] = {
        "rate_per_s": 1234.56,
        "latency_ms": {"p50": 10, "p99": 20, "p999": 30},
        "models": MODELS,
        "seconds": 12.34,
    }
    return Summary(ledger=ledger, **(given | changed))


def test_every_count_is_where_machines_look_for_it() -> None:
    assert json.loads(to_json(summary())) == {
        "events_in": 110,
        "accepted": 100,
        "duplicate_events_in": 3,  # 110 came in: 100 accepted, 6 refused, 1 not judged
        "conflicts": 4,
        "dead_letters": 6,
        "rejects": {"conflict": 4, "late": 2},
        "decisions": 99,
        "missing": 1,
        "duplicates": 5,
        "undecided_at_stop": 6,
        "outcomes_in": 9,
        "labels": 12,
        "outcomes": {
            "accepted": 8,
            "joined": 5,
            "pending": 3,
            "orphans": {"no_decision": 1},
            "lost": 2,
            "doubled": 3,
            "matured": 7,
        },
        "rate_per_s": 1234.6,
        "latency_ms": {"p50": 10, "p99": 20, "p999": 30},
        "models": [
            {"version": "bootstrap", "from": 1_735_689_600_000, "why": "no model yet"},
            {"version": "20250301-ab", "from": 1_740_787_200_000, "why": "trained on 5 matured events"},
        ],
        "seconds": 12.3,
    }


def test_without_an_account_counts_are_null_and_the_text_says_how_to_get_them() -> None:
    document = json.loads(to_json(summary(None)))
    assert document.keys() == json.loads(to_json(summary())).keys()
    assert (document["missing"], document["duplicates"], document["events_in"]) == (None, None, None)
    assert document["rate_per_s"] == 1234.6
    assert "weir status --verify" in to_text(summary(None))


def test_without_time_for_outcomes_the_rest_is_told() -> None:
    known = summary(dataclasses.replace(LEDGER, outcomes=None))
    document, whole = json.loads(to_json(known)), json.loads(to_json(summary()))
    assert document.keys() == whole.keys()
    assert {name for name, value in document.items() if value != whole[name]} == {"outcomes_in", "labels", "outcomes"}
    assert (document["outcomes_in"], document["outcomes"]) == (None, None)
    text = to_text(known)
    assert "missing 1, duplicates 5" in text
    assert "weir status --verify" in text
    assert "None" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_nothing_decided_is_no_rate_and_no_latency() -> None:
    empty = summary(Ledger(), rate_per_s=0.0, latency_ms=LatencyCounts().percentiles(), models=[])
    document = json.loads(to_json(empty))
    assert (document["rate_per_s"], document["latency_ms"]) == (0.0, {"p50": None, "p99": None, "p999": None})
    assert "None" not in to_text(empty)


def test_text_fits_a_narrow_terminal_and_shows_times_for_people() -> None:
    text = to_text(summary())
    assert max(map(len, text.splitlines())) <= 80
    assert "missing 1, duplicates 5, undecided at stop 6" in text
    assert "conflict 4, late 2" in text
    assert "bootstrap from 2025-01-01T00:00:00Z: no model yet" in text
    assert text.index("bootstrap") < text.index("20250301-ab from 2025-03-01T00:00:00Z")

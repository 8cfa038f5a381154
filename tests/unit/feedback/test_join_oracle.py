"""Any interleaving of decisions and outcomes: what the joiner makes of it is what a few lines of dicts say."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from feedback_world import DECISION, HOUR_MS, LABELLED, ORPHAN, OUTCOME, UPDATE, at, decision, outcome
from hypothesis import given, settings
from hypothesis import strategies as st
from join_oracle import Made, Oracle

from services.feedback.archive import open_archive
from services.feedback.joiner import Joiner
from services.feedback.labelling import Labelling
from services.feedback.labelling import Made as Record
from services.feedback.settings import JoinRules
from services.mesh.topics import LABELS, OUTCOMES_ORPHAN

RULES = JoinRules(patience_ms=3 * HOUR_MS, maturity_ms=6 * HOUR_MS, memory_ms=12 * HOUR_MS)
EVENTS = [f"e-{number}" for number in range(8)]
LABELLING = Labelling()

decisions = st.tuples(st.just("decide"), st.sampled_from(EVENTS), st.integers(0, 20))
outcomes = st.tuples(
    st.just("observe"),
    st.sampled_from(EVENTS),
    st.integers(0, 24),
    st.integers(0, 5),  # which of the event's outcomes
    st.sampled_from(["fraud", "genuine"]),
    st.one_of(st.none(), st.none(), st.integers(0, 5)),
)
steps = st.lists(st.one_of(decisions, outcomes, st.just(("due",))), max_size=60)


def said(record: Record) -> Made:
    if record.topic == LABELS.name:
        label = LABELLED.decode(record.value)
        return ("label", label["event_id"], label["outcome_id"], label["label"], label["label_version"])
    if record.topic == OUTCOMES_ORPHAN.name:
        orphan = ORPHAN.decode(record.value)
        return ("orphan", orphan["outcome_id"], orphan["orphan_reason"])
    update = UPDATE.decode(record.value)["update"]
    return ("update", update["event_id"], update["label"], update["label_version"])


@settings(max_examples=300, deadline=None)
@given(steps=steps, reopens=st.sets(st.integers(0, 59), max_size=4))
def test_any_interleaving(steps: list[tuple[Any, ...]], reopens: set[int]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        archive, _ = open_archive(Path(directory), 0, "a-log", 1 << 20)
        joiner = Joiner(0, archive, RULES, LABELLING)
        oracle = Oracle(RULES.patience_ms, RULES.maturity_ms, RULES.memory_ms, tells_matured=True)
        told: dict[str, dict[str, Any]] = {}
        for number, step in enumerate(steps):
            if number in reopens:
                archive.commit()
                archive.close()
                archive, _ = open_archive(Path(directory), 0, "a-log", 1 << 20)
                joiner = Joiner(0, archive, RULES, LABELLING)
            match step:
                case ("decide", event, hours):
                    if event in oracle.decided:
                        continue  # nobody is decided twice
                    value = DECISION.encode(decision(event, hours / 24))
                    expected = oracle.decide(event, at(hours / 24))
                    made = joiner.decide(number, 1, value)
                case ("observe", event, hours, which, label, revises):
                    name = f"{event}/{which}"
                    one = told.setdefault(
                        name,
                        outcome(
                            name, event, hours / 24, label, revises=None if revises is None else f"{event}/{revises}"
                        ),
                    )
                    expected = oracle.observe(one)
                    made = joiner.observe(number, OUTCOME.encode(one), one)  # type: ignore[arg-type]
                case _:
                    expected, made = oracle.due(), joiner.due()
            assert [said(record) for record in made] == expected, step
            assert joiner.waiting == len(oracle.waiting)
        archive.close()

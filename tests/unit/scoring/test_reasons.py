"""Reasons go where a wrong decision costs most, and name what raised the score."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from trained import NAMES, trained

from services.scoring.model import BootstrapScorer, Scorer
from services.scoring.reasons import choose, explain

SUSPECT = np.array([[400.0, 1.0, 3.0, 0.9]], dtype=np.float32)
HARMLESS = np.array([[12.0, 0.0, 3.0, 0.0]], dtype=np.float32)


def scorer() -> Scorer:
    bundle, manifest = trained()
    return Scorer(manifest, bundle.model, bundle.fallback)


def test_highest_expected_loss_first_and_the_rest_partial() -> None:
    scores = np.array([0.9, 0.5, 0.1, 0.8, 0.6])
    amounts = np.array([10.0, 100.0, 9_999.0, 5.0, 20.0])
    chosen = choose(scores, amounts, score_min=0.5, rows_max=2)
    assert chosen.rows.tolist() == [1, 4]
    assert chosen.partial.tolist() == [0, 3]


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1e6)), max_size=40), st.floats(0, 1), st.integers(0, 10))
def test_chosen_and_partial_are_the_candidates_in_order_of_loss(
    events: list[tuple[float, float]], score_min: float, rows_max: int
) -> None:
    scores, amounts = (np.array([event[i] for event in events], dtype=np.float64) for i in (0, 1))
    chosen = choose(scores, amounts, score_min, rows_max)
    ranked = [*chosen.rows.tolist(), *chosen.partial.tolist()]
    candidates = [row for row, (score, _) in enumerate(events) if score >= score_min]
    assert ranked == sorted(candidates, key=lambda row: (-scores[row] * amounts[row], row))
    assert len(chosen.rows) == min(rows_max, len(candidates))


def test_reasons_name_feature_value_and_log_odds_strongest_first() -> None:
    (reasons,) = explain(scorer(), SUSPECT, np.array([False]), reasons_max=2)
    assert [reason.feature for reason in reasons] == ["amount", "terminal_fraud_rate_7d"]
    assert [reason.value for reason in reasons] == [400.0, float(np.float32(0.9))]
    assert reasons[0].contribution > reasons[1].contribution > 0.5


def test_what_lowered_the_score_is_no_reason() -> None:
    (reasons,) = explain(scorer(), HARMLESS, np.array([False]), reasons_max=4)
    parts = scorer().contributions(HARMLESS, np.array([False]))[0, :-1]
    assert {reason.feature for reason in reasons} == {name for name, part in zip(NAMES, parts, strict=True) if part > 0}
    assert "amount" not in {reason.feature for reason in reasons}


def test_a_fallback_row_is_explained_by_its_event_alone() -> None:
    both = np.vstack([SUSPECT, SUSPECT])
    full, spare = explain(scorer(), both, np.array([False, True]), reasons_max=4)
    assert "terminal_fraud_rate_7d" in {reason.feature for reason in full}
    assert {reason.feature for reason in spare} <= {"amount", "is_night"}


def test_nothing_to_explain_and_nobody_to_ask_give_no_reasons() -> None:
    assert explain(scorer(), SUSPECT[:0], np.zeros(0, np.bool_), 3) == []
    assert explain(BootstrapScorer(0.01, NAMES), SUSPECT, np.array([False]), 3) == [()]

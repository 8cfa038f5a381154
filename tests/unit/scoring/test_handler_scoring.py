"""A batch of vectors in, a batch of scores out; what can't be scored is refused alone."""

from __future__ import annotations

import numpy as np
import pytest
from model_releases import PIN, Shelf, bundle_of, features_record
from trained import NAMES, vectors

from services.mesh.codec import Codec
from services.scoring.champion import split_bucket
from services.scoring.desk import ModelDesk
from services.scoring.handler import ScoringHandler
from services.scoring.settings import ScoringSettings

SCORE = Codec("score.v1.avsc")
SETTINGS = ScoringSettings(public_key_files=(), explain_score_min=0.0, explain_rows_max=2, reasons_max=3)
ROWS = vectors(9, 5)


def handler(shelf: Shelf) -> tuple[ScoringHandler, ModelDesk]:
    desk = shelf.desk()
    return ScoringHandler(desk, PIN, SETTINGS, shelf.telemetry), desk


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    made = Shelf()
    made.publish("m1", "promote", bundle_of("m1"))
    made.publish("m2", "challenge", bundle_of("m2"))
    return made


def test_bootstrap_scores_everything_alike_and_explains_nothing() -> None:
    made, _ = handler(Shelf())
    emits = made.step([features_record(n, row.tobytes()) for n, row in enumerate(ROWS)])
    scores = [SCORE.decode(emit.value) for emit in emits]
    assert {(s["score"], s["model_version"], s["explanation_status"]) for s in scores} == {(0.01, "bootstrap", "none")}


def test_a_batch_is_scored_row_by_row_and_keeps_what_came_in(shelf: Shelf) -> None:
    made, desk = handler(shelf)
    records = [features_record(n, row.tobytes()) for n, row in enumerate(ROWS)]
    emits = made.step(records)
    known = np.zeros(len(ROWS), dtype=np.bool_)
    expected = desk.champion.score(ROWS, known)
    beside = desk.challengers[0].score(ROWS, known)
    for n, emit in enumerate(emits):
        assert (emit.topic, emit.key, emit.partition, emit.source) == ("scores.v1", b"c1", 2, n)
        score = SCORE.decode(emit.value)
        assert score["event_id"] == f"e{n}"
        assert score["vector"] == ROWS[n].tobytes()
        assert score["features_append_time_ms"] == 4
        assert score["score"] == expected[n]
        assert score["model_version"] == "m1"
        assert score["challenger_scores"] == [{"model_version": "m2", "score": beside[n]}]
        assert score["split_bucket"] == split_bucket("c1")


def test_the_dearest_are_explained_and_the_others_said_to_be_partial(shelf: Shelf) -> None:
    made, _ = handler(shelf)
    records = [features_record(n, row.tobytes(), amount_minor=100 * (n + 1)) for n, row in enumerate(ROWS)]
    scores = [SCORE.decode(emit.value) for emit in made.step(records)]
    assert [s["explanation_status"] for s in scores].count("full") == 2
    assert [s["explanation_status"] for s in scores].count("partial") == 3
    losses = [s["score"] * s["amount_minor"] for s in scores]
    full = [s["explanation_status"] == "full" for s in scores]
    assert min(loss for loss, is_full in zip(losses, full, strict=True) if is_full) >= max(
        loss for loss, is_full in zip(losses, full, strict=True) if not is_full
    )
    for score in scores:
        for reason in score["contributions"]:
            assert reason["feature"] in NAMES
            assert reason["contribution"] > 0


def test_a_fallback_is_scored_from_the_event_alone(shelf: Shelf) -> None:
    made, desk = handler(shelf)
    row = ROWS[:1].copy()
    row[0, 2:] = np.nan
    (emit,) = made.step([features_record(0, row.tobytes(), feature_status="fallback")])
    expected = desk.champion.score(row, np.ones(1, dtype=np.bool_))[0]
    assert SCORE.decode(emit.value)["score"] == expected


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"feature_set": "fs-0"}, b"feature_set"),
        ({"vector": b"\0" * 12}, b"vector"),
        ({"vector": b"\0" * 20}, b"vector"),
    ],
)
def test_a_vector_of_another_kind_is_refused_alone(shelf: Shelf, fields: dict[str, object], field: bytes) -> None:
    """Two wrong lengths may add up to a right one: then every row behind the first would be another's."""
    made, _ = handler(shelf)
    good = ROWS[0].tobytes()
    records = [features_record(0, good), features_record(1, **{"vector": good, **fields}), features_record(2, good)]  # type: ignore[arg-type]
    emits = made.step(records)
    assert [(emit.topic, emit.source) for emit in emits] == [("dead-letters.v1", 1), ("scores.v1", 0), ("scores.v1", 2)]
    assert dict(emits[0].headers)["error_field"] == field
    assert SCORE.decode(emits[1].value)["score"] == SCORE.decode(emits[2].value)["score"]


def test_wrong_lengths_that_add_up_are_refused_both(shelf: Shelf) -> None:
    made, _ = handler(shelf)
    emits = made.step([features_record(0, b"\0" * 12), features_record(1, b"\0" * 20)])
    assert [emit.topic for emit in emits] == ["dead-letters.v1"] * 2


def test_junk_is_refused_and_an_empty_rest_is_fine(shelf: Shelf) -> None:
    made, _ = handler(shelf)
    record = features_record(0, ROWS[0].tobytes())
    emits = made.step([record._replace(value=None), record._replace(value=b"junk")])
    assert [emit.topic for emit in emits] == ["dead-letters.v1"] * 2


def test_models_change_between_batches_only() -> None:
    shelf = Shelf()
    made, desk = handler(shelf)
    shelf.publish("m1", "promote", bundle_of("m1"))
    record = features_record(0, ROWS[0].tobytes())
    assert SCORE.decode(made.step([record])[0].value)["model_version"] == "bootstrap"
    made.idle()
    shelf.settle(desk)
    assert SCORE.decode(made.step([record])[0].value)["model_version"] == "m1"


def test_a_canary_serves_its_share_of_customers_and_each_decision_says_who_served() -> None:
    shelf = Shelf()
    shelf.publish("m1", "promote", bundle_of("m1"))
    shelf.publish("m2", "challenge", bundle_of("m2"))
    shelf.publish("m2", "canary", canary_percent=40)
    made, desk = handler(shelf)
    shelf.settle(desk)
    records = [features_record(n, ROWS[0].tobytes(), customer_id=f"c{n}") for n in range(60)]
    scores = [SCORE.decode(emit.value) for emit in made.step(records)]
    by_model = {
        m.version: m.score(ROWS[:1], np.zeros(1, dtype=np.bool_))[0] for m in (desk.champion, *desk.challengers)
    }
    for score in scores:
        serves, other = ("m2", "m1") if score["split_bucket"] >= 6_000 else ("m1", "m2")
        assert (score["model_version"], score["score"]) == (serves, by_model[serves])
        assert score["challenger_scores"] == [{"model_version": other, "score": by_model[other]}]
    assert {s["model_version"] for s in scores} == {"m1", "m2"}
    assert {s["explanation_status"] for s in scores} == {"full", "partial"}

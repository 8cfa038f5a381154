"""Numbers of several instances become one stage's."""

from __future__ import annotations

from services.mesh.topology import INGESTION, SCORING
from services.platform.observe import StageStatus, Stretch, _collect

FIRST = """\
# TYPE weir_rejects_total counter
weir_rejects_total{stage="ingestion",code="late"} 3.0
weir_rejects_total{stage="ingestion",code="conflict"} 1.0
# TYPE weir_input_age_seconds gauge
weir_input_age_seconds{stage="ingestion"} 0.25
# TYPE weir_duplicates_total counter
weir_duplicates_total{stage="ingestion"} 2.0
# TYPE weir_seen_identities gauge
weir_seen_identities{stage="ingestion"} 70.0
# TYPE weir_step_seconds histogram
weir_step_seconds_bucket{stage="ingestion",le="+Inf"} 4.0
weir_step_seconds_sum{stage="ingestion"} 0.5
weir_step_seconds_count{stage="ingestion"} 4.0
"""
SECOND = FIRST.replace("0.25", "0.10").replace(" 3.0", " 4.0")


def test_counts_add_up_and_the_oldest_input_counts() -> None:
    status = StageStatus(stage="ingestion")
    assert _collect(status, FIRST) + _collect(status, SECOND) == 1.0
    assert status.rejects == {"late": 7, "conflict": 2}
    assert status.duplicates == 4
    assert status.input_age_ms == 250.0
    assert status.gauges == {"weir_seen_identities": 140}


def test_a_commit_marker_behind_the_last_transaction_is_no_work() -> None:
    assert Stretch(SCORING, SCORING.consumes, 0, done=10, end=11).offsets == 0
    assert Stretch(SCORING, SCORING.consumes, 0, done=10, end=13).offsets == 2
    # Producers write without transactions.
    assert Stretch(INGESTION, INGESTION.consumes, 0, done=10, end=11).offsets == 1

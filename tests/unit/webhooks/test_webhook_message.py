"""What a receiver is sent: the whole decision, the same bytes and id at each repeat."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.mesh.codec import Codec
from services.mesh.errors import Poison
from services.mesh.feature_set import pinned_feature_set
from services.mesh.ports import InRecord
from services.webhooks.message import body_of, message_id_of, trial_body

sys.path.append(str(Path(__file__).parents[2] / "contracts"))

from example_files import examples

CODEC = Codec("decision.v1.avsc")
EXAMPLES = examples("decision.v1.avsc")


def record(**changed: object) -> InRecord:
    value = CODEC.encode(EXAMPLES["at-a-terminal-known-for-fraud"] | changed)
    return InRecord("decisions.v1", 3, 7, 1_772_532_300_150, b"c-9", value, [])


def test_the_body_is_the_whole_decision_with_features_by_name() -> None:
    body = json.loads(body_of(record(), CODEC))
    decision = CODEC.decode(record().value)
    assert (body["type"], body["timestamp"]) == ("decision.made", "2026-03-03T10:05:00.150Z")
    data = body["data"]
    assert set(data) == (set(decision) - {"vector"}) | {"features", "decision_append_time_ms"}
    for name in ("action", "reasons", "rule_hits", "conditions", "contributions", "policy_version", "score"):
        assert data[name] == pytest.approx(decision[name]) if name == "score" else data[name] == decision[name]
    assert list(data["features"]) == list(pinned_feature_set().names)
    assert data["features"]["terminal_known_labels_7d"] == 5.0


def test_a_repeat_has_the_same_bytes() -> None:
    assert body_of(record(), CODEC) == body_of(record(), CODEC)


def test_what_is_missing_is_null_and_unknown_features_have_numbers() -> None:
    vector = np.array([1.5, np.nan], dtype="<f4").tobytes()
    data = json.loads(body_of(record(vector=vector, feature_set="another"), CODEC))["data"]
    assert data["features"] == {"0": 1.5, "1": None}


def test_what_is_no_decision_is_poison() -> None:
    with pytest.raises(Poison):
        body_of(record()._replace(value=b"\x00\x00\x00\x00\x09rest"), CODEC)


IDS = st.text(min_size=1, max_size=5)


@given(st.tuples(IDS, IDS, st.sampled_from("ab")), st.tuples(IDS, IDS, st.sampled_from("ab")))
def test_an_id_is_of_one_decision_and_one_subscription(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    ids = [message_id_of(name, record(event_id=e, customer_id=c).value or b"") for e, c, name in (one, other)]
    assert (ids[0] == ids[1]) == (one == other)
    assert ids[0].startswith("msg_")


def test_a_test_says_that_it_is_one() -> None:
    assert json.loads(trial_body("bank", 0)) == {
        "type": "webhook.test", "timestamp": "1970-01-01T00:00:00.000Z", "data": {"webhook": "bank"},
    }  # fmt: skip

"""Records read column by column say what they say one by one; damage is marked and harms no neighbour."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from services.mesh.codec import Codec, schema
from services.mesh.columns import Columns
from services.mesh.errors import Poison

CODEC = Codec("labelled.v1.avsc")
WANTED = ("event_id", "customer_id", "event_time_ms", "channel", "feature_status", "vector", "score", "model_version",
          "challenger_scores", "propensity", "label", "label_version", "label_source", "label_age_ms")  # fmt: skip
STATUSES = ["ok", "saturated", "stale", "fallback"]
SOURCES = ["analyst", "chargeback", "early_warning", "customer", "matured"]


def labelled(rng: random.Random, n: int) -> dict[str, Any]:
    text = "".join(rng.choice("aé漢z") for _ in range(rng.randrange(1, 90)))
    return {
        "event_id": f"e{n}{text}", "customer_id": f"c{rng.randrange(9)}", "terminal_id": text,
        "event_time_ms": rng.choice([0, 1, 63, 64, 1_522_540_831_000, 2**62]), "amount_minor": rng.randrange(10**6),
        "currency": "EUR", "channel": rng.choice([None, "web"]), "country": rng.choice([None, "FR"]), "device_id": None,
        "source_partition": 3, "source_offset": rng.randrange(2**40), "raw_append_time_ms": 1,
        "event_append_time_ms": 2,
        "update_append_time_ms": 3, "feature_set": "fs-1", "feature_status": rng.choice(STATUSES),
        "vector": np.array([n, rng.random()], "<f4").tobytes(), "features_append_time_ms": 4, "score": rng.random(),
        "model_version": rng.choice(["m1", "m2"]), "split_bucket": 7,
        "challenger_scores": [{"model_version": f"x{k}", "score": rng.random()} for k in range(rng.randrange(4))],
        "explanation_status": "none",
        "contributions": [{"feature": "amount", "value": 1.5, "contribution": 0.5}] * rng.randrange(3),
        "score_append_time_ms": 5, "action": "approve", "reasons": [{"code": "R", "text": text}] * rng.randrange(3),
        "rule_hits": ["rule"] * rng.randrange(3), "policy_version": "p", "propensity": rng.random(),
        "decision_append_time_ms": 6, "decision_offset": 7, "label": rng.choice(["fraud", "genuine"]),
        "label_version": rng.randrange(3), "label_source": rng.choice(SOURCES), "outcome_id": rng.choice([None, "o"]),
        "revises": None, "observed_time_ms": 8, "label_age_ms": rng.randrange(10**9),
        "outcome_append_time_ms": rng.choice([None, 9]),
    }  # fmt: skip


def decoded(value: bytes) -> tuple[dict[str, Any] | None, str]:
    try:
        return CODEC.decode(value), ""
    except Poison as poison:
        return None, str(poison)


def test_every_wanted_field_is_what_the_codec_reads() -> None:
    rng = random.Random(5)
    records = [labelled(rng, n) for n in range(300)]
    table = Columns(schema("labelled.v1.avsc"), WANTED).read([CODEC.encode(record) for record in records])
    assert table.sound.all()
    for name in ("event_time_ms", "score", "propensity", "label_version", "label_age_ms"):
        assert table.numbers[name].tolist() == [record[name] for record in records]
    for name, symbols in (("feature_status", STATUSES), ("label", ["fraud", "genuine"]), ("label_source", SOURCES)):
        assert [symbols[place] for place in table.numbers[name]] == [record[name] for record in records]
    for name in ("event_id", "customer_id", "model_version"):
        assert table.texts(table.spans[name]) == [record[name] for record in records]
    assert table.texts(table.spans["channel"]) == [record["channel"] or "" for record in records]
    names, place = table.names(table.spans["model_version"])
    assert [names[p] for p in place] == [record["model_version"] for record in records]
    rows, fits = table.matrix(table.spans["vector"], 2)
    assert fits.all()
    assert [row.tobytes() for row in rows] == [record["vector"] for record in records]
    owner, numbers, spans = table.items["challenger_scores"]
    found = list(zip(owner, table.texts(spans["model_version"]), numbers["score"], strict=True))
    expected = [(n, c["model_version"], c["score"]) for n, r in enumerate(records) for c in r["challenger_scores"]]
    assert sorted(found) == sorted(expected)


def test_damage_is_marked_where_the_codec_refuses_and_leaves_its_neighbours_alone() -> None:
    rng = random.Random(6)
    records = [labelled(rng, n) for n in range(400)]
    values = [CODEC.encode(record) for record in records]
    for n in range(0, 400, 2):
        value = bytearray(values[n])
        if rng.random() < 0.3:
            del value[rng.randrange(len(value)) :]
        else:
            for _ in range(rng.randrange(1, 4)):
                value[rng.randrange(len(value))] = rng.randrange(256)
        values[n] = bytes(value)
    table = Columns(schema("labelled.v1.avsc"), WANTED).read(values)
    for n, damaged in enumerate(values):
        record, why = decoded(damaged)
        assert record or not table.sound[n] or "UnicodeDecodeError" in why, f"{n}: {why}"
        if table.sound[n] and record:
            assert table.numbers["event_time_ms"][n] == record["event_time_ms"]
        if not table.sound[n]:
            assert table.numbers["score"][n] == 0
            assert table.spans["vector"].length[n] == 0
    assert table.sound[1::2].all()


@pytest.mark.parametrize("values", [[], [b""], [b"\x00\x00\x00"], [b"junk" * 9]])
def test_nothing_and_junk(values: list[bytes]) -> None:
    table = Columns(schema("labelled.v1.avsc"), WANTED).read(values)
    assert table.sound.tolist() == [False] * len(values)
    rows, fits = table.matrix(table.spans["vector"], 2)
    assert rows.shape == (len(values), 2)
    assert not fits.any()

"""Write the examples of records between services anew: ``python tests/contracts/write_examples.py``.

Real ones: three payments go through the code of every service, so an example is what a consumer sees.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from example_files import write_example
from review_examples import review_examples

from services.decisions.desk import PolicyDesk
from services.decisions.handler import DecisionsHandler
from services.decisions.policy import load_policy
from services.features.definitions import load_feature_set
from services.features.state import EntityState
from services.features.views import CustomerView, TerminalView
from services.mesh.adapters.memory import ManualClock
from services.mesh.bundle import verify
from services.mesh.codec import Codec
from services.mesh.feature_set import pinned_feature_set
from services.mesh.manifest import parse
from services.mesh.ports import InRecord
from services.mesh.telemetry import StageTelemetry
from services.retraining.build import Identity, build
from services.retraining.dataset import Horizon, Recorded
from services.retraining.train import Settings
from services.scoring.bootstrap import declared_bootstrap
from services.scoring.desk import ModelDesk
from services.scoring.handler import ScoringHandler
from services.scoring.model import Scorer, Scores
from services.scoring.settings import ScoringSettings

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
NOW_MS = 1_772_532_300_000  # Tuesday 3 March 2026, 10:05 UTC
PIN = pinned_feature_set()
EVENT, UPDATE = Codec("payments/event.v1.avsc"), Codec("terminal_update.v1.avsc")
FEATURES, SCORE, DECISION = Codec("features.v1.avsc"), Codec("score.v1.avsc"), Codec("decision.v1.avsc")


class ControlTopic:
    """A control topic that holds ``values``."""

    def __init__(self, *values: bytes) -> None:
        self._values = values

    def read_to_end(self) -> list[InRecord]:
        return [InRecord("control", 0, at, NOW_MS, None, value, ()) for at, value in enumerate(self._values)]

    def poll(self) -> list[InRecord]:
        return []

    def close(self) -> None: ...


def payment(
    event_id: str, customer: str, terminal: str, time_ms: int, amount_minor: int, **more: Any
) -> dict[str, Any]:
    optional = {"currency": "EUR", "channel": "pos", "country": "FR", "device_id": None}
    return {
        "event_id": event_id, "customer_id": customer, "terminal_id": terminal, "event_time_ms": time_ms,
        "amount_minor": amount_minor, **optional, **more,
        "source_partition": 3, "source_offset": 1_204_117 + time_ms % 1_000, "raw_append_time_ms": time_ms + 41,
    }  # fmt: skip


def model_release() -> dict[str, Any]:
    """A small real model of random payments, in which fraud is large or at a terminal known for it."""
    rng = np.random.default_rng(1)
    n = 6_000
    rows = rng.poisson(3, (n, len(PIN.names))).astype(np.float32)
    rows[:, PIN.names.index("amount")] = rng.lognormal(3, 1, n)
    rate = PIN.names.index("terminal_known_fraud_rate_7d")
    rows[:, rate] = rng.beta(0.2, 2, n)
    log_odds = -6 + 0.03 * rows[:, 0] + 6 * rows[:, rate]
    fraud = (rng.random(n) < 1 / (1 + np.exp(-log_odds))).astype(np.int8)
    times_ms = NOW_MS - (n - np.arange(n, dtype=np.int64)) * HOUR_MS // 4
    key = Ed25519PrivateKey.generate()
    bundle = build(
        Recorded(
            rows=rows, event_time_ms=times_ms, label=fraud, observed_ms=times_ms + DAY_MS, exact=np.ones(n, np.bool_),
            weight=np.ones(n, np.float32), held_out=np.zeros(n, np.bool_),
        ),
        Identity(
            model_version="2026-03-03.1", feature_set=PIN.content_hash, feature_names=PIN.names,
            fallback_feature_names=tuple(PIN.names[i] for i in PIN.event_only), code_version="0.1.0",
        ),
        NOW_MS,
        Horizon(label_delay_ms=DAY_MS, validation_ms=20 * DAY_MS, genuine_after_ms=None),
        Settings(trees=8),
        key,
    )  # fmt: skip
    verify(bundle, [key.public_key()], PIN.content_hash, PIN.names)
    return {
        "model_version": "2026-03-03.1", "move": "promote", "why": "first model of this mesh", "event_time_ms": NOW_MS,
        "manifest": bundle.manifest.decode(), "signature": bundle.signature, "model": bundle.model,
        "fallback_model": bundle.fallback, "actor": "retraining", "expects": None, "canary_percent": 0,
        "evidence": "{}",
    }  # fmt: skip


def label_of(event: dict[str, Any]) -> dict[str, Any]:
    """The news, a day later, that ``event`` was fraud."""
    label = {name: event[name] for name in ("event_id", "customer_id", "terminal_id", "event_time_ms")}
    return label | {"label": "fraud", "label_version": 1, "observed_time_ms": event["event_time_ms"] + DAY_MS}


def chain(event: dict[str, Any], model: Scores, history: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What each hop makes of ``event`` after ``history``, in which other customers were defrauded."""
    declared = load_feature_set(files("schemas").joinpath("payments/features.yaml").read_text(), "features.yaml")
    customer, terminal = CustomerView(declared), TerminalView(declared)
    customers: dict[str, EntityState] = {}
    of_terminal = terminal.view.new_state()
    for number, past in enumerate([*history, event]):
        append_ms = past["event_time_ms"] + 60
        of_customer = customers.setdefault(past["customer_id"], customer.view.new_state())
        record = record_of("events.v1", append_ms, past["customer_id"], EVENT.encode(past))
        update, _ = customer.apply(of_customer, record, number)
        assert update is not None
        record = record_of("updates.terminal.v1", append_ms + 21, past["terminal_id"], update.value)
        features, _ = terminal.apply(of_terminal, record, number)
        if past is not event and past["customer_id"] != event["customer_id"]:
            value = UPDATE.encode({"update": label_of(past)})
            terminal.absorb(of_terminal, record_of("updates.terminal.v1", NOW_MS, past["terminal_id"], value))
    assert features is not None
    assert update is not None
    clock = ManualClock(NOW_MS)
    telemetry = StageTelemetry("example", clock)
    desk = ModelDesk(ControlTopic(), [], PIN, declared_bootstrap(PIN), clock, telemetry)
    desk.champion = model
    settings = ScoringSettings(public_key_files=(), explain_score_min=0.05, explain_rows_max=25, reasons_max=5)
    scoring = ScoringHandler(desk, PIN, settings, telemetry)
    score = scoring.step([record_of("features.v1", append_ms + 43, event["customer_id"], features.value)])[0]
    policies = PolicyDesk(ControlTopic(Codec("policy_release.v1.avsc").encode(policy_release())), PIN, telemetry)
    policies.open()
    deciding = DecisionsHandler(policies, PIN, telemetry)
    decision = deciding.step([record_of("scores.v1", append_ms + 66, event["customer_id"], score.value)])[0]
    return {
        "payments/event.v1.avsc": event,
        "terminal_update.v1.avsc": UPDATE.decode(update.value),
        "features.v1.avsc": FEATURES.decode(features.value),
        "score.v1.avsc": SCORE.decode(score.value),
        "decision.v1.avsc": DECISION.decode(decision.value),
    }


def record_of(topic: str, append_ms: int, key: str, value: bytes | None) -> InRecord:
    return InRecord(topic, 3, 0, append_ms, key.encode(), value, ())


def policy_release() -> dict[str, Any]:
    text = files("schemas").joinpath("payments/policy.yaml").read_text()
    version = load_policy(text, "policy.yaml", PIN.names).version
    release = {"policy_version": version, "author": "deploy", "why": "first policy of a new mesh", "policy": text}
    return release | {"move": "publish", "percent": 100, "approver": None, "expects": None, "diff": ""}


def alert() -> dict[str, Any]:
    """What an upstream change of units looks like."""
    return {
        "alert_id": "feature_shift:amount:all:2026-03-03", "status": "raised", "kind": "feature_shift",
        "subject": "amount", "segment": "all", "model_version": "2026-03-03.1", "window_start_ms": NOW_MS,
        "window_end_ms": NOW_MS + DAY_MS, "statistic": "psi", "value": 4.1, "threshold": 0.012, "records": 9_412,
        "is_harm": False, "text": "amount left its reference on 3 March in all payments: PSI 4.1, 0.012 is tolerated",
        "action": "a person has to look", "evidence": '{"bins": 10}',
    }  # fmt: skip


def profile() -> dict[str, Any]:
    """An hour of three payments, as scoring counts it: two features in bins, a few scores."""
    table = {"action": "", "bins": [13, 21], "counts": [2, 1]}
    table |= {"probability_sums": [0.0062, 0.031], "variance_sums": [0.00618, 0.030039]}
    cell = {
        "window_start_ms": NOW_MS // HOUR_MS * HOUR_MS, "segment": "pos", "model_version": "2026-03-03.1",
        "records": 3, "inexact_records": 0, "features": [[0, 1, 2, 0, 0], [0, 3, 0, 0]], "scores": [table],
        "values": [
            {"field": "country", "value": "FR", "records": 2}, {"field": "country", "value": None, "records": 1},
        ],
        "amounts": [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2],
    }  # fmt: skip
    return {
        "subject": "scoring", "instance": "0", "window_ms": HOUR_MS, "newest_event_time_ms": NOW_MS,
        "covered": [{"source_partition": 3, "from_offset": 1_187_200, "to_offset": 1_187_204}], "cells": [cell],
    }  # fmt: skip


def main() -> None:
    release = model_release()
    model = Scorer(parse(release["manifest"].encode()), release["model"], release["fallback_model"])
    ordinary = payment("e-5f0c11", "c-4711", "t-0815", NOW_MS, 2_350)
    usual = [payment(f"e-0{n}", "c-4711", "t-0815", NOW_MS - n * 3 * DAY_MS, 1_800 + 90 * n) for n in (6, 4, 2, 1)]
    attacked = payment("e-77aa02", "c-9", "t-66", NOW_MS, 48_999, channel="web", country="NL", device_id="d-9f2c")
    frauds = [payment(f"e-1{n}", f"c-3{n}", "t-66", NOW_MS - n * DAY_MS, 40_000) for n in (9, 6, 5, 4, 3, 2)]
    for case, records in {
        "ordinary": chain(ordinary, model, usual),
        "at-a-terminal-known-for-fraud": chain(attacked, model, frauds),
        "before-the-first-model": chain(ordinary, declared_bootstrap(PIN), []),
    }.items():
        for file, record in records.items():
            if case != "before-the-first-model" or file in ("score.v1.avsc", "decision.v1.avsc"):
                write_example(file, case, record)
    write_example("terminal_update.v1.avsc", "label", {"update": label_of(frauds[2])})
    write_example("model_release.v1.avsc", "promote", release)
    retired: dict[str, Any] = {
        "move": "retire",
        "why": "precision of 2026-03-17.1 is higher",
        "event_time_ms": NOW_MS + 14 * DAY_MS,
    }
    retired |= {"manifest": "", "signature": b"", "model": b"", "fallback_model": b""}
    write_example("model_release.v1.avsc", "retire", release | retired)
    write_example("policy_release.v1.avsc", "first", policy_release())
    outcome: dict[str, Any] = {"outcome_id": "o-1", "event_id": "e-77aa02", "customer_id": "c-9", "label": "fraud"}
    outcome |= {"source": "chargeback", "observed_time_ms": NOW_MS + 7 * DAY_MS, "revises": None}
    write_example("payments/outcome_raw.v1.avsc", "chargeback", outcome)
    reversal: dict[str, Any] = {"outcome_id": "o-2", "label": "genuine", "source": "customer", "revises": "o-1"}
    reversal["observed_time_ms"] = NOW_MS + 9 * DAY_MS
    write_example("payments/outcome_raw.v1.avsc", "reversal", outcome | reversal)
    accepted = outcome | {
        "source_partition": 3,
        "source_offset": 91_204,
        "raw_append_time_ms": NOW_MS + 7 * DAY_MS + 52,
    }
    write_example("payments/outcome.v1.avsc", "chargeback", accepted)
    orphan = accepted | {"orphan_reason": "no_decision", "orphaned_time_ms": NOW_MS + 8 * DAY_MS}
    write_example("outcome_orphan.v1.avsc", "unknown-event", orphan)
    decided = chain(attacked, model, frauds)["decision.v1.avsc"]
    decided |= {"decision_append_time_ms": NOW_MS + 92, "decision_offset": 1_187_340}
    charged_back: dict[str, Any] = {
        "label": "fraud",
        "label_version": 1,
        "label_source": "chargeback",
        "outcome_id": "o-1",
    }
    charged_back |= {"revises": None, "observed_time_ms": NOW_MS + 7 * DAY_MS, "label_age_ms": 7 * DAY_MS}
    charged_back["outcome_append_time_ms"] = NOW_MS + 7 * DAY_MS + 52
    write_example("labelled.v1.avsc", "charged-back", decided | charged_back)
    matured: dict[str, Any] = {"label": "genuine", "label_version": 0, "label_source": "matured", "outcome_id": None}
    matured |= {"observed_time_ms": NOW_MS + 30 * DAY_MS, "label_age_ms": 30 * DAY_MS, "outcome_append_time_ms": None}
    write_example("labelled.v1.avsc", "matured", decided | charged_back | matured)
    write_example("profile.v1.avsc", "an-hour", profile())
    write_example("drift_alert.v1.avsc", "amounts-in-cents", alert())
    for file, case, record in review_examples(decided, NOW_MS):
        write_example(file, case, record)


if __name__ == "__main__":
    main()

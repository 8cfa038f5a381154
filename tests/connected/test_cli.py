"""Every command on a running mesh: what it says to people, what it says to machines, and how it refuses.

The mesh is a real ``weir up``, in a data directory of its own; commands run in this process, as the console script
runs them.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from cli_mesh import (
    BAD_LINES,
    EVENTS,
    MINUTE_MS,
    READY_S_MAX,
    SETTLE_S_MAX,
    START_MS,
    Mesh,
    Weir,
    is_decided,
    is_ready,
    payments,
    read_json,
    refused,
    until,
)
from command_imports import HEAVY, ON_A_MESH, modules_of
from confluent_kafka import Producer

from services.cli.__main__ import main
from services.mesh.feature_set import pinned_feature_set
from services.mesh.topology import STAGES
from services.platform.endpoints import Endpoints
from services.platform.observe import Observer

pytestmark = pytest.mark.connected

POLICY = Path(__file__).resolve().parents[2] / "schemas/payments/policy.yaml"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    directory = tmp_path_factory.mktemp("cli")
    data_dir, log = directory / "data", directory / "up.log"
    environ = {name: value for name, value in os.environ.items() if not re.fullmatch("WEIR_[A-Z]+_PORT", name)}
    argv = [sys.executable, "-m", "services.cli", "up", "--no-input", "--data-dir", str(data_dir)]
    with log.open("w") as out, subprocess.Popen(argv, stdout=out, stderr=out, env=environ) as up:
        try:
            until(READY_S_MAX, lambda: is_ready(data_dir) or up.poll() is not None)
            assert up.poll() is None, log.read_text()
            file = directory / "payments.jsonl"
            file.write_text("\n".join(payments()) + "\n")
            assert main(["send", "--data-dir", str(data_dir), "--label-delay", "1m", str(file)]) == 0
            observer = Observer(Endpoints.read(data_dir).kafka, data_dir / "run")
            until(SETTLE_S_MAX, lambda: is_decided(observer))
            yield Mesh(data_dir)
        finally:
            up.send_signal(signal.SIGTERM)
            up.wait(30)


@pytest.fixture
def weir(mesh: Mesh, capsys: pytest.CaptureFixture[str]) -> Weir:
    """Run one command on the mesh: exit status, standard output, standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([*arguments, "--data-dir", str(mesh.data_dir)])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def test_status_says_who_is_ready_what_is_in_force_and_what_can_be_carried(weir: Weir) -> None:
    found = read_json(weir("status", "--json"))
    stages = {stage["stage"]: stage for stage in found["stages"]}
    assert list(stages) == [stage.name for stage in STAGES]
    assert all((stage["ready"], stage["instances"], stage["lag"]) == (1, 1, 0) for stage in stages.values())
    assert stages["ingestion"]["rejects"] == {code: 1 for code, _ in BAD_LINES.values()}
    assert stages["features-terminal"]["statuses"] == {"ok": EVENTS}
    assert stages["features-customer"]["versions"] == {"feature_set": pinned_feature_set().content_hash}
    assert sum(stages["decisions"]["actions"].values()) == EVENTS
    assert found["ready"]
    assert [found["webhooks"][name] for name in ("instances", "ready", "lag", "subscriptions")] == [1, 1, 0, []]
    views = found["redis"]["views"]
    assert (views["customer"]["entities"], views["customer"]["events"]) == (12, EVENTS)
    assert (views["terminal"]["entities"], views["terminal"]["events"]) == (5, EVENTS)
    room = {name: (view["events_in_windows"], view["partitions_full"]) for name, view in views.items()}
    assert room == {"customer": (EVENTS, 0), "terminal": (EVENTS, 0)}
    capacity = found["capacity"]
    assert capacity["features"]["entities_in_process"] == {"features-customer": 12, "features-terminal": 5}
    assert capacity["features"]["events_per_s"] > 0
    status, out, _ = weir("status")
    assert status == 0
    assert "events/s sustained" in out
    assert f"terminal windows: {EVENTS} events held, 1,024 MiB fit 22,369,620 one by one" in out
    assert "refused: malformed_json 1, out_of_range 1, unknown_field 1" in out
    assert re.search(r"^webhooks +1/1 +0 .* 0 subscriptions$", out, re.MULTILINE)


@pytest.mark.parametrize("line", ON_A_MESH)
def test_a_command_imports_what_it_needs(mesh: Mesh, line: str) -> None:
    found = modules_of(*line.split(), "--data-dir", str(mesh.data_dir))
    assert found & HEAVY - ON_A_MESH[line] == set()


def test_lookup_answers_for_its_health_as_every_service_does(mesh: Mesh) -> None:
    port = json.loads((mesh.data_dir / "run" / "lookup.json").read_text())["port"]

    def ask(path: str) -> tuple[int, str]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
            return answer.status, answer.read().decode()

    assert ask("/health/alive")[0] == 200
    assert ask("/health/ready") == (200, "ready\n")
    progress = json.loads(ask("/health/progress")[1])
    assert (progress["stage"], progress["records"] >= EVENTS, progress["batches"] > 0) == ("lookup", True, True)
    assert f'weir_records_total{{stage="lookup"}} {progress["records"]}.0' in ask("/metrics")[1]


def test_status_verifies_from_the_log_itself(weir: Weir) -> None:
    ledger = read_json(weir("status", "--verify", "--json"))["verified"]
    assert {name: ledger[name] for name in ("accepted", "decisions", "missing", "duplicates", "undecided")} == {
        "accepted": EVENTS,
        "decisions": EVENTS,
        "missing": 0,
        "duplicates": 0,
        "undecided": 0,
    }
    assert ledger["rejects"] == {code: 1 for code, _ in BAD_LINES.values()}
    assert f"{EVENTS} accepted, {EVENTS} decided" in weir("status", "--verify")[1]


def test_trace_walks_from_the_producer_to_the_outcome(weir: Weir) -> None:
    (event,) = read_json(weir("trace", "e40", "--json"))["events"]
    hops = event["hops"]
    assert [hop["topic"] for hop in hops] == [
        "events.raw.v1",
        "events.v1",
        "updates.terminal.v1",
        "features.v1",
        "scores.v1",
        "decisions.v1",
    ]
    assert json.loads(hops[0]["what"]["value"])["event_id"] == "e40"
    assert hops[1]["what"]["source_offset"] == hops[0]["offset"]
    assert hops[2]["what"]["features"]["amount"] == pytest.approx(1.4)
    assert list(hops[3]["what"]["features"]) == list(pinned_feature_set().names)
    assert hops[3]["what"]["features"]["customer_count_30d"] == 4  # e4, e16, e28, e40
    assert hops[4]["what"]["model_version"] == "bootstrap"
    assert hops[5]["what"]["action"] in ("approve", "challenge", "review", "decline")
    assert len({hop["traceparent"] for hop in hops[1:]}) == 1
    assert all(hop["delta_ms"] >= 0 for hop in hops[1:])
    assert [(said["label"], said["source"]) for said in event["outcomes"]] == [("fraud", "chargeback")]
    assert [(known["label"], known["label_version"]) for known in event["labels"]] == [("fraud", 1)]
    assert (event["dead_letters"], event["orphans"]) == ([], [])
    _, out, _ = weir("trace", "e40")
    assert "outcome fraud, by chargeback" in out
    assert "label version 1: fraud, chargeback after" in out
    assert "ms after it came in" in out


def test_trace_tells_customers_with_the_same_event_id_apart(weir: Weir) -> None:
    both = read_json(weir("trace", "shared", "--json"))["events"]
    assert sorted(event["customer_id"] for event in both) == ["c4", "c5"]
    assert all(len(event["hops"]) == 6 for event in both)
    (one,) = read_json(weir("trace", "shared", "--customer", "c5", "--json"))["events"]
    assert one["customer_id"] == "c5"
    assert "2 customers have an event shared" in weir("trace", "shared")[1]


def test_trace_of_a_refused_event_says_why(weir: Weir) -> None:
    for name, (code, _) in BAD_LINES.items():
        (event,) = read_json(weir("trace", name, "--json"))["events"]
        (letter,) = event["dead_letters"]
        assert (letter["error_code"], letter["stage"], event["hops"]) == (code, "ingestion", [])
        assert f"refused by ingestion: {code}" in weir("trace", name)[1]


def test_trace_finds_what_was_decided_this_moment(mesh: Mesh, weir: Weir) -> None:
    """The index is a second behind; the command reads the rest itself."""
    event = {
        "event_id": "just-now",
        "event_time_ms": START_MS + EVENTS * MINUTE_MS,
        "customer_id": "c1",
        "terminal_id": "t1",
        "amount_minor": 7,
    }
    producer = Producer({"bootstrap.servers": mesh.endpoints.kafka, "partitioner": "murmur2_random"})
    producer.produce("events.raw.v1", json.dumps(event), "c1")
    assert producer.flush(10) == 0
    until(SETTLE_S_MAX, lambda: weir("trace", "just-now")[0] == 0)
    (found,) = read_json(weir("trace", "just-now", "--json"))["events"]
    assert found["hops"][-1]["topic"] in (
        "events.v1",
        "updates.terminal.v1",
        "features.v1",
        "scores.v1",
        "decisions.v1",
    )
    until(SETTLE_S_MAX, lambda: len(read_json(weir("trace", "just-now", "--json"))["events"][0]["hops"]) == 6)


def test_trace_of_nothing_is_one_line(weir: Weir) -> None:
    assert "event nobody: neither accepted nor refused" in refused(weir("trace", "nobody"))
    assert "of customer c99" in refused(weir("trace", "e40", "--customer", "c99"))


def test_dead_letters_are_listed_newest_first_and_shown_whole(weir: Weir) -> None:
    found = read_json(weir("dead-letters", "list", "--json"))
    assert sorted(letter["cause"]["error_code"] for letter in found) == sorted(code for code, _ in BAD_LINES.values())
    (typo,) = read_json(weir("dead-letters", "list", "--code", "unknown_field", "--json"))
    assert (typo["event_id"], typo["customer_id"], typo["cause"]["error_field"]) == ("typo", "c1", "curency")
    assert len(read_json(weir("dead-letters", "list", "--limit", "1", "--json"))) == 1
    place = f"{typo['partition']}:{typo['offset']}"
    assert read_json(weir("dead-letters", "show", place, "--json")) == typo
    _, out, _ = weir("dead-letters", "show", place)
    assert '"curency": "EUR"' in out
    assert "no dead letters with code late" in weir("dead-letters", "list", "--code", "late")[1]


def test_dead_letters_refuse_what_is_not_there(weir: Weir) -> None:
    assert "no dead letter lies there" in refused(weir("dead-letters", "show", "0:999999"))
    assert "must be PARTITION:OFFSET" in refused(weir("dead-letters", "show", "zero"))
    assert "--limit=0" in refused(weir("dead-letters", "list", "--limit", "0"))
    assert "nothing chosen" in refused(weir("dead-letters", "requeue"))


def test_features_are_read_as_of_an_offset_and_agree_with_what_was_served(weir: Weir) -> None:
    found = read_json(weir("features", "get", "customer", "c3", "--json"))
    assert (found["status"], found["events_kept"], found["source"]["records_behind"]) == ("ok", 20, 0)
    assert found["source"]["age_ms"] >= 0
    (event,) = read_json(weir("trace", "e231", "--json"))["events"]  # the newest of c3
    served = event["hops"][3]["what"]["features"]
    assert found["features"] == {name: served[name] for name in found["features"]}
    at = read_json(weir("features", "get", "customer", "c3", "--at", str(START_MS + 3 * MINUTE_MS), "--json"))
    assert at["features"]["customer_count_5m"] == 1
    terminal = read_json(weir("features", "get", "terminal", "t2", "--json"))
    assert terminal["source"]["topic"] == "updates.terminal.v1"
    assert "exact as of events.v1[" in weir("features", "get", "customer", "c3")[1]
    assert "no customer nobody is known" in refused(weir("features", "get", "customer", "nobody"))
    assert "--at='soon'" in refused(weir("features", "get", "customer", "c3", "--at", "soon"))


def test_parity_holds_bit_for_bit(weir: Weir) -> None:
    found = read_json(weir("parity", "--json"))
    assert found["equal"]
    for view in found["views"].values():
        assert (view["compared"] >= EVENTS, view["mismatches"], view["without_input"]) == (True, 0, 0)
    assert "equal, bit for bit" in weir("parity", "--sample", "3")[1]
    assert "--sample=0" in refused(weir("parity", "--sample", "0"))


@pytest.mark.parametrize(("entity", "name"), [("customer", "c3"), ("terminal", "t2")])
def test_a_store_that_is_lost_while_all_is_quiet_is_rebuilt_and_never_reads_as_zeros(
    mesh: Mesh, weir: Weir, entity: str, name: str
) -> None:
    before = read_json(weir("features", "get", entity, name, "--json"))["features"]
    with redis.Redis.from_url(mesh.endpoints.redis) as client:
        client.flushall()

    def is_back() -> bool:
        answer = weir("features", "get", entity, name, "--json")
        if answer[0] == 0:
            return bool(read_json(answer)["features"] == before)
        assert "the store holds nothing" in refused(answer)
        return False

    until(SETTLE_S_MAX, is_back)
    assert read_json(weir("parity", "--json"))["equal"]


def test_state_of_another_feature_set_is_told(mesh: Mesh, weir: Weir) -> None:
    with redis.Redis.from_url(mesh.endpoints.redis) as client:
        found = {key: client.hget(key, "metadata") for key in client.scan_iter(match="{terminal:*", _type="hash")}
        marks = {key: metadata for key, metadata in found.items() if metadata}
        for key, metadata in marks.items():
            client.hset(key, "metadata", b"0" * 16 + metadata[16:])
        assert "holds state of another feature set" in refused(weir("features", "get", "terminal", "t2"))
        for key, metadata in marks.items():
            client.hset(key, "metadata", metadata)


def test_a_policy_is_checked_published_and_listed(weir: Weir, tmp_path: Path) -> None:
    version = read_json(main_alone("policy", "check", str(POLICY), "--json"))["policy_version"]
    changed = tmp_path / "policy.yaml"
    changed.write_text(POLICY.read_text() + "# stricter\n")
    published = read_json(weir("policy", "publish", str(changed), "--why", "case 7", "--author", "ann", "--json"))
    listed = read_json(weir("policy", "list", "--json"))
    assert [row["policy_version"] for row in listed[:1]] == [version]
    assert (listed[-1]["policy_version"], listed[-1]["author"], listed[-1]["why"], listed[-1]["in_force"]) == (
        published["policy_version"],
        "ann",
        "case 7",
        True,
    )

    def is_in_force() -> bool:
        stages = read_json(weir("status", "--json"))["stages"]
        stage = next(stage for stage in stages if stage["stage"] == "decisions")
        return bool(stage["versions"].get("policy") == published["policy_version"])

    until(SETTLE_S_MAX, is_in_force)
    assert "No such file" in refused(weir("policy", "publish", str(tmp_path / "none.yaml"), "--why", "x"))
    assert "--why is empty" in refused(weir("policy", "publish", str(changed), "--why", " "))
    changed.write_text("rules: 7\n")
    status, out, err = weir("policy", "publish", str(changed), "--why", "x")
    assert (status, out) == (1, "")
    assert "the policy has no" in err
    assert len(read_json(weir("policy", "list", "--json"))) == len(listed)


def main_alone(*arguments: str) -> tuple[int, str, str]:
    """A command that needs no mesh, as a process of its own."""
    argv = [sys.executable, "-m", "services.cli", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout, done.stderr


def test_schemas_are_registered_as_pinned(weir: Weir) -> None:
    assert "every schema is registered as pinned" in weir("schemas", "register", "--check")[1]
    rows = read_json(weir("schemas", "list", "--json"))
    assert {"subject": "decisions.v1-value", "id": 7, "file": "decision.v1.avsc"} in rows
    assert weir("schemas", "register")[0] == 0


def test_models_are_listed_and_training_on_too_little_says_so(weir: Weir) -> None:
    moves = read_json(weir("models", "list", "--json"))
    assert {row["move"] for row in moves} <= {"note"}, "the controller may have said why it does not train"
    assert "no model yet" in weir("models", "list")[1]
    assert "never released here" in refused(weir("models", "show", "20180101-00000000"))
    assert "never released here" in refused(weir("models", "verify", "20180101-00000000"))
    assert re.search(r"rows|labels|frauds|span", refused(weir("models", "train", "--label-delay", "1h")))
    assert "--label-delay='soon'" in refused(weir("models", "train", "--label-delay", "soon"))


def test_sending_twice_sends_twice_and_decides_once(weir: Weir, mesh: Mesh, tmp_path: Path) -> None:
    file = tmp_path / "again.jsonl"
    newest_ms = START_MS + EVENTS * MINUTE_MS
    event = {"event_id": "again", "customer_id": "c2", "terminal_id": "t2", "amount_minor": 9}
    file.write_text(json.dumps(event | {"event_time_ms": newest_ms}) + "\n")
    for _ in range(2):
        assert read_json(weir("send", str(file), "--json")) == {
            "sent": 1,
            "acknowledged": 1,
            "failed": 0,
            "outcomes": 0,
        }
    until(SETTLE_S_MAX, lambda: read_json(weir("status", "--json"))["stages"][0]["duplicates"] == 1)
    (found,) = read_json(weir("trace", "again", "--json"))["events"]
    assert len(found["hops"]) == 6
    assert "INPUT=nowhere.csv: no such file" in refused(weir("send", "nowhere.csv"))
    assert "SPEED='fast'" in refused(weir("send", str(file), "--speed", "fast"))


def test_requeue_sends_the_original_once_more_and_leaves_no_mark(weir: Weir) -> None:
    dry = read_json(weir("dead-letters", "requeue", "--all", "--dry-run", "--json"))
    assert dry == {"dry_run": True, "sent": {code: 1 for code, _ in BAD_LINES.values()}, "left": {}}
    (before,) = read_json(weir("dead-letters", "list", "--code", "out_of_range", "--json"))
    done = read_json(weir("dead-letters", "requeue", "--code", "out_of_range", "--json"))
    assert done == {"dry_run": False, "sent": {"out_of_range": 1}, "left": {}}

    def letters() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = read_json(weir("dead-letters", "list", "--code", "out_of_range", "--json"))
        return found

    until(SETTLE_S_MAX, lambda: len(letters()) == 2)
    again, first = letters()
    assert first == before
    assert (again["value"], again["key"], again["headers"]) == (before["value"], before["key"], before["headers"])
    assert int(again["cause"]["origin_offset"]) > int(before["cause"]["origin_offset"])


def test_without_a_mesh_every_command_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for command in (
        ["status"],
        ["trace", "e1"],
        ["parity"],
        ["dead-letters", "list"],
        ["models", "list"],
        ["policy", "list"],
        ["schemas", "list"],
        ["features", "get", "customer", "c1"],
    ):
        status = main([*command, "--data-dir", str(tmp_path / "none")])
        assert "start one with `make run` or `weir up`" in refused((status, *capsys.readouterr()))

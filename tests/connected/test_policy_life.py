"""The life of a policy on a running mesh, as the README tells it: events flow all the while, and none is lost.

The policy is the README's own, so it stays one that works.
"""

from __future__ import annotations

import csv
import json
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from weir_process import ROOT, Up, weir

from services.cli.policy_journal import move, read_book
from services.mesh.adapters.log_reader import LogReader
from services.mesh.codec import Codec
from services.mesh.errors import Fatal
from services.mesh.topics import DECISIONS, EVENTS_RAW
from services.platform.endpoints import Endpoints

pytestmark = pytest.mark.connected

START_MS = 1_522_540_800_000
WAIT_S_MAX = 60.0
ENOUGH = 1_000  # events; amounts grow, and the first one above 300 from abroad, which the policy stops, is number 800
README = (ROOT / "README.md").read_text()
STEPS = ("check", "backtest", "shadow", "publish", "rollback", "list")


class Stream(threading.Thread):
    """Payments at a steady pace until told to stop; a minute of event time between two."""

    def __init__(self, kafka: str) -> None:
        super().__init__(daemon=True)
        self._producer = Producer({"bootstrap.servers": kafka, "linger.ms": 5, "partitioner": "murmur2_random"})
        self.ended = threading.Event()
        self.sent = 0

    def run(self) -> None:
        while not self.ended.is_set():
            for _ in range(4):
                number = self.sent
                event = {
                    "event_id": f"e{number}",
                    "event_time_ms": START_MS + number * 20_000,
                    "customer_id": f"c{number * 8 % 301}",
                    "terminal_id": f"t{number % 20}",
                    "amount_minor": 500 + number * 37 % 60_000,
                    "country": ("FR", "DE", "NL")[number % 3],
                }
                self._producer.produce(EVENTS_RAW.name, json.dumps(event), event["customer_id"])
                self.sent += 1
            self._producer.poll(0)
            time.sleep(0.02)
        self._producer.flush(30)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    data = tmp_path_factory.mktemp("policy") / "data"
    with Up(data, "--no-input", "--without", "gateway,console,review,drift,retraining,webhooks") as up:
        up.wait_ready()
        yield data
        up.interrupt(signal.SIGTERM, group=False)


def until(holds: Callable[[], Any], limit_s: float = WAIT_S_MAX) -> Any:
    end_s = time.monotonic() + limit_s
    while not (found := holds()):
        assert time.monotonic() < end_s, "not in time"
        time.sleep(0.3)
    return found


def test_from_check_to_rollback_while_events_flow(data: Path, tmp_path: Path) -> None:
    kafka = Endpoints.read(data).kafka
    codec, log = Codec(DECISIONS.schemas[0]), LogReader(kafka)
    known: list[dict[str, Any]] = []
    read_to = log.starts(DECISIONS)

    def decided() -> list[dict[str, Any]]:
        """Every decision so far; reads what came since."""
        ends = log.ends(DECISIONS)
        for record in log.read(read_to, ends):
            known.append(codec.decode(record.value) | {"at_ms": record.append_time_ms})
        read_to.update(ends)
        return known

    def policy(*arguments: str | Path) -> Any:
        ran = weir("policy", *arguments, "--data-dir", data, "--json")
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

    def of(version: str, since: int = 0) -> list[dict[str, Any]]:
        return [decision for decision in decided()[since:] if decision["policy_version"] == version]

    for step in STEPS:
        assert f"weir policy {step}" in README
    file = tmp_path / "my-policy.yaml"
    found = re.search(r"```yaml\n(name: .*?)```", README, re.DOTALL)
    assert found
    file.write_text(found[1])
    stream = Stream(kafka)
    stream.start()
    try:
        checked = weir("policy", "check", file, "--json")
        version = json.loads(checked.stdout)["policy_version"]
        first = until(lambda: len(decided()) >= ENOUGH and decided())[0]["policy_version"]
        assert version != first

        changes = tmp_path / "changed.csv"
        report = policy("backtest", file, "--changes", changes)
        assert report["population"]["events"] >= ENOUGH
        assert report["changed"] > 0
        with changes.open() as rows:
            assert len(list(csv.DictReader(rows))) == report["changed"]
        # The policy in force, on what it decided itself: event for event what the live path did.
        same, own = policy("backtest", ROOT / "schemas/payments/policy.yaml")["agrees"]
        assert same == own >= ENOUGH

        policy("shadow", file, "--why", "to be watched")
        beside = until(lambda: [d for d in decided() if d["shadow_verdicts"]])
        assert {verdict["policy_version"] for d in beside for verdict in d["shadow_verdicts"]} == {version}
        assert not of(version)

        policy("publish", file, "--percent", "10", "--why", "calm in shadow")
        until(lambda: of(version))
        since = len(decided())
        until(lambda: len(decided()) > since + 900)
        tried = {d["customer_id"] for d in of(version)}
        others = {d["customer_id"] for d in of(first, since)}
        assert 10 <= len(tried) <= 60  # of 301
        assert not tried & others

        policy("publish", file, "--why", "as expected")
        until(lambda: {d["policy_version"] for d in decided()[-40:]} == {version})
        told = next(d for d in reversed(of(version)) if d["action"] != "approve")
        assert any(condition["held"] == "yes" for condition in told["conditions"])

        policy("rollback", "--why", "too many calls")
        until(lambda: {d["policy_version"] for d in decided()[-40:]} == {first})
    finally:
        stream.ended.set()
        stream.join()
    until(lambda: len(decided()) >= stream.sent)
    verified = json.loads(weir("status", "--verify", "--json", "--data-dir", data).stdout)["verified"]
    assert (verified["missing"], verified["duplicates"], verified["decisions"]) == (0, 0, stream.sent)
    assert {d["policy_version"] for d in decided()} == {first, version}
    moves = [(row["move"], row["percent"], row["policy_version"]) for row in policy("list")]
    assert moves[1:] == [
        ("shadow", 100, version),
        ("publish", 10, version),
        ("publish", 100, version),
        ("rollback", 100, first),
    ]
    assert "+name: my-shop" in policy("list")[1]["diff"]


def test_two_who_move_at_once_do_not_undo_each_other(data: Path, tmp_path: Path) -> None:
    """A move that found another policy in force is void for decisions and for its author alike."""
    kafka = Endpoints.read(data).kafka
    book, late = read_book(kafka), read_book(kafka)
    text = (ROOT / "schemas/payments/policy.yaml").read_text()
    other = tmp_path / "other.yaml"
    other.write_text(f"# other\n{text}")
    assert weir("policy", "publish", other, "--why", "first", "--data-dir", data).returncode == 0
    version = book.registry.in_force
    released = book.released(version)["policy"]
    with pytest.raises(Fatal, match="came too late: expects"):
        move(kafka, late, version, released, "publish", why="late", author="bob")
    listed = json.loads(weir("policy", "list", "--json", "--data-dir", data).stdout)
    assert listed[-1]["why_void"].startswith("expects")
    assert not listed[-1]["in_force"]
    shown = weir("policy", "show", listed[-2]["policy_version"], "--data-dir", data)
    assert "in force" in shown.stdout
    assert "+# other" in shown.stdout
    wrong = weir("policy", "rollback", "nothing-00000000", "--why", "x", "--data-dir", data)
    assert wrong.returncode == 1
    assert "never released here" in wrong.stderr
    assert wrong.stderr.count("\n") == 1

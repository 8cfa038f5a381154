"""Decisions reach other systems, whatever those do and whoever is killed: each once at least, or one dead letter."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_mesh import Weir, read_json, refused
from gateway_client import records_of
from private_ca import Authority
from webhook_world import (
    Call,
    Decider,
    Receiver,
    Reply,
    Webhooks,
    partitions_of_the_mesh,
    reference_receiver,
    until,
)

from services.cli.__main__ import main
from services.mesh.hops import cause_of
from services.mesh.lookup_entries import last_header
from services.mesh.topics import DEAD_LETTERS
from services.platform.deploy import create_topics
from services.platform.servers import Servers, running

pytestmark = [pytest.mark.connected, pytest.mark.faults, pytest.mark.timeout(180)]
REFERENCE: Any = reference_receiver()


@pytest.fixture(scope="module")
def kafka(servers: Servers) -> str:
    """The shared broker, with the mesh's topics: subscriptions begin at their time, and no other test reads these."""
    bootstrap = servers.endpoints.kafka
    create_topics(bootstrap, partitions_of_the_mesh(bootstrap), 1)
    return bootstrap


@pytest.fixture
def data(servers: Servers, kafka: str, tmp_path: Path) -> Path:
    """What the commands need of a data directory."""
    (tmp_path / "format").write_text("weir-data 1\n")
    servers.endpoints.write(tmp_path)
    return tmp_path


@pytest.fixture
def file(data: Path) -> Path:
    return data / "webhooks.yaml"


@pytest.fixture
def weir(data: Path, capsys: pytest.CaptureFixture[str]) -> Weir:
    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(["webhooks", *arguments, "--data-dir", str(data)])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def subscribe(weir: Weir, name: str, url: str, *more: str) -> str:
    """Its secret."""
    secret: str = read_json(weir("add", name, url, "--allow-private", "--json", *more))["secret"]
    return secret


def letters_of(kafka: str, name: str) -> list[dict[str, str]]:
    found = records_of(kafka, DEAD_LETTERS)
    return [cause_of(record) for record in found if last_header(record.headers, "webhook") == name.encode()]


def events(calls: list[Call]) -> list[str]:
    return [call.event_id for call in calls]


def own(calls: list[Call], name: str) -> list[Call]:
    """Of this test: a subscription from the beginning hears of others too."""
    return [call for call in calls if call.event_id.startswith(name)]


def test_who_subscribes_is_told_signed_and_only_what_it_asked_for(
    kafka: str, file: Path, weir: Weir, own_name: str
) -> None:
    with Receiver() as receiver, Webhooks(kafka, file).wait_ready() as process:
        decider = Decider(kafka, own_name)
        decider.decide(3)  # before anybody asked
        old = subscribe(weir, "bank", f"{receiver.url}/bank", "--actions", "decline,review")
        all_of = subscribe(weir, "all", f"{receiver.url}/all", "--actions", "approve,decline", "--from", "beginning")
        assert read_json(weir("test", "bank", "--json"))["taken"] is True
        (trial,) = receiver.heard("/bank")
        assert json.loads(trial.body)["type"] == "webhook.test"
        first = decider.decide(4, action="decline")
        decider.decide(4, action="approve")
        decider.decide(4, action="decline", committed=False)
        last = decider.decide(2, action="review")
        until(lambda: sorted(events(receiver.heard("/bank"))[1:]) == sorted(first + last), lambda: receiver.calls)
        until(lambda: len(own(receiver.heard("/all"), own_name)) == 11, lambda: receiver.calls)
        for call in receiver.heard("/bank")[1:]:
            assert REFERENCE.is_genuine(call.headers, call.body, [old], time.time())
            assert not REFERENCE.is_genuine(call.headers, call.body, [all_of], time.time())
            assert call.data["reasons"]
            assert call.data["rule_hits"] is not None
            assert call.data["features"]
        new = read_json(weir("rotate", "bank", "--overlap", "1h", "--json"))["secret"]
        weir("pause", "all")
        time.sleep(2.5)  # a change is in force within a second, and the old runner ends
        (rotated,) = decider.decide(1)
        until(lambda: rotated in events(receiver.heard("/bank")), process.log.read_text)
        call = receiver.heard("/bank")[-1]
        assert [REFERENCE.is_genuine(call.headers, call.body, [one], time.time()) for one in (old, new)] == [True] * 2
        assert rotated not in events(receiver.heard("/all"))
        weir("resume", "all")
        until(lambda: rotated in events(receiver.heard("/all")), process.log.read_text)
        assert 'weir_webhook_delivered_total{stage="webhooks",webhook="bank"} 7.0' in process.metrics()
        assert len(own(receiver.heard("/all"), own_name)) == 12, "nothing was told twice"


class Hostile:
    """Fails, hangs, asks for time, refuses one; each decision differently, and then takes it."""

    def __init__(self) -> None:
        self.refuses: set[str] = set()

    def __call__(self, call: Call) -> Reply:
        if call.path == "/hangs":
            return Reply(after_s=5.0)
        if call.path == "/takes":
            return Reply()
        if call.event_id in self.refuses:
            return Reply(400)
        if call.number > 1:
            return Reply(204, after_s=0.05)
        kind = int(call.event_id.rpartition("-")[2]) % 12
        return {0: Reply(500), 2: Reply(0), 5: Reply(204, after_s=1.2), 9: Reply(429, retry_after="1")}.get(
            kind, Reply()
        )


def test_nothing_is_lost_whatever_a_receiver_does_and_whenever_we_are_killed(
    kafka: str, file: Path, weir: Weir, own_name: str
) -> None:
    behave = Hostile()
    with Receiver(behave) as receiver:
        for name in ("hostile", "hangs", "takes"):
            subscribe(weir, name, f"{receiver.url}/{name}")
        decider, made = Decider(kafka, own_name), list[str]()
        process = Webhooks(kafka, file).wait_ready()
        for _ in range(2):
            behave.refuses.add(decider.next_id(7))
            made += decider.decide(12)
            taken = len(receiver.taken("/hostile"))
            until(lambda before=taken: len(receiver.taken("/hostile")) >= before + 4, process.log.read_text)
            process.kill()
            process = Webhooks(kafka, file).wait_ready()
        with process:
            until(lambda: set(events(receiver.taken("/hostile"))) | behave.refuses >= set(made), process.log.read_text)
            until(lambda: set(events(receiver.taken("/takes"))) == set(made), process.log.read_text)
            until(lambda: len(letters_of(kafka, "hostile")) >= 2, process.log.read_text)
            assert receiver.taken("/hangs") == []
            assert 'weir_webhook_down{stage="webhooks",webhook="hangs"} 1.0' in process.metrics()
            assert 'weir_webhook_down{stage="webhooks",webhook="takes"} 0.0' in process.metrics()
            # Calls from before it was known to be down were several at once; the first few after it may lie among them.
            heard = len(receiver.heard("/hangs"))
            until(lambda: len(receiver.heard("/hangs")) >= heard + 5, process.log.read_text)
            at_work = _most_at_once([call.at_s for call in receiver.heard("/hangs")[heard + 2 :]])
            assert at_work == 1, "a receiver that is down is asked by one at a time"
            by_event = {event: {c.id for c in receiver.heard("/hostile") if c.event_id == event} for event in made}
            assert {event: len(ids) for event, ids in by_event.items()} == dict.fromkeys(made, 1), "repeats keep the id"
            for customer in range(5):
                own = [event for event in made if int(event.rpartition("-")[2]) % 5 == customer]
                firsts = list(dict.fromkeys(e for e in events(receiver.taken("/hostile")) if e in own))
                assert firsts == [event for event in own if event not in behave.refuses]
            letters = letters_of(kafka, "hostile")
            assert [letter["error_code"] for letter in letters] == ["webhook_refused"] * 2, "each once"
            assert {letter["stage"] for letter in letters} == {"webhooks"}
            dead = read_json(weir("dead", "hostile", "--json"))
            assert {one["event_id"] for one in dead} == behave.refuses
            _mend_and_redeliver(weir, receiver, behave, dead)


def _most_at_once(starts_s: list[float]) -> int:
    """Calls that hang for 0.7 s until we give them up: how many overlap."""
    return max(sum(1 for other_s in starts_s if start_s <= other_s < start_s + 0.6) for start_s in starts_s)


def _mend_and_redeliver(weir: Weir, receiver: Receiver, behave: Hostile, dead: list[dict[str, Any]]) -> None:
    one = dead[0]
    assert weir("redeliver", "hostile")[0] == 1, "it still refuses"
    before = {call.event_id: call for call in receiver.heard("/hostile")}
    behave.refuses.clear()
    assert read_json(weir("redeliver", "hostile", "--dry-run", "--json"))["chosen"] == 2
    assert read_json(weir("redeliver", "hostile", one["event_id"], "--json"))["taken"] == [one["message_id"]]
    assert len(read_json(weir("redeliver", "hostile", "--json"))["taken"]) == 1
    assert read_json(weir("dead", "hostile", "--json")) == []
    assert [letter["redelivered"] for letter in read_json(weir("dead", "hostile", "--all", "--json"))] == [True] * 2
    after = {call.event_id: call for call in receiver.taken("/hostile")}
    for letter in dead:
        event_id = letter["event_id"]
        assert (after[event_id].id, after[event_id].body) == (before[event_id].id, before[event_id].body)
    assert "no webhook has given it up" in refused(weir("redeliver", "hostile", "e-none"))


@pytest.mark.parametrize(("module", "keeps"), [("services.webhooks", True), ("tests.connected.hasty_webhooks", False)])
def test_a_commit_before_the_answer_would_lose(
    kafka: str, file: Path, weir: Weir, own_name: str, module: str, keeps: bool
) -> None:
    """Requests are on their way when the process is killed: are they sent again?"""
    name = "keeps" if keeps else "hasty"
    is_slow = [True]
    with Receiver(lambda call: Reply(after_s=3.0) if is_slow[0] else Reply()) as receiver:
        subscribe(weir, name, f"{receiver.url}/{name}")
        with Webhooks(kafka, file, module, WEIR_WEBHOOKS_TIMEOUT="10s").wait_ready() as process:
            made = Decider(kafka, own_name.replace("[", "-")).decide(10)
            until(lambda: len(receiver.heard(f"/{name}")) >= 5, process.log.read_text)
            time.sleep(1.2)  # two commits of what is settled
            process.kill()
        is_slow[0] = False
        with Webhooks(kafka, file, module).wait_ready() as process:
            last = Decider(kafka, f"{own_name}-after").decide(5)
            until(lambda: set(events(receiver.taken(f"/{name}"))) >= set(last), process.log.read_text)
            if keeps:
                until(lambda: set(events(receiver.taken(f"/{name}"))) >= set(made), process.log.read_text)
            else:
                time.sleep(1.0)
    lost = set(made) - set(events(receiver.taken(f"/{name}")))
    assert keeps or lost, "the control has to lose, or the tests above prove nothing"


def test_over_tls_a_receiver_is_told_when_its_certificate_is_right_and_not_before(
    kafka: str, file: Path, weir: Weir, own_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, strangers = Authority(tmp_path), Authority(tmp_path, "strangers")
    monkeypatch.setenv("WEIR_WEBHOOKS_CA_FILE", str(ours.file))
    running_out = ours.server_context("localhost", expired=True)
    with (
        Receiver(tls=ours.server_context("localhost")) as good,
        Receiver(tls=running_out) as expired,
        Receiver(tls=strangers.server_context("localhost")) as unknown,
    ):
        for name, receiver in (("good", good), ("expired", expired), ("unknown", unknown)):
            subscribe(weir, name, f"{receiver.url}/{name}")
        assert read_json(weir("test", "good", "--json"))["taken"] is True
        assert "its certificate is refused: certificate has expired" in refused(weir("test", "expired"))
        with Webhooks(kafka, file).wait_ready() as process:
            made = Decider(kafka, own_name).decide(6)
            until(lambda: set(events(good.taken("/good"))) >= set(made), process.log.read_text)
            for name in ("expired", "unknown"):
                down = f'weir_webhook_down{{stage="webhooks",webhook="{name}"}} 1.0'
                until(lambda line=down: line in process.metrics(), process.log.read_text)
                assert f"webhook={name} takes nothing" in process.log.read_text()
            assert "refused: certificate has expired" in process.log.read_text()
            assert "name it: WEIR_WEBHOOKS_CA_FILE" in process.log.read_text()
            tries = re.findall(r'attempts_total{result="no answer",stage="webhooks"} (\d+)', process.metrics())
            assert int(tries[0]) >= 10, "each try is counted"
            assert (expired.calls, unknown.calls) == ([], []), "nobody of a wrong certificate is told anything"
            running_out.load_cert_chain(ours.certificate("localhost"))  # they have noticed
            until(lambda: set(events(expired.taken("/expired"))) == set(made), process.log.read_text)
            assert unknown.calls == []
            assert letters_of(kafka, "expired") == letters_of(kafka, "unknown") == []


def test_a_process_that_was_thought_dead_is_fenced(kafka: str, file: Path, weir: Weir, own_name: str) -> None:
    refuses = {f"{own_name}-0003"}
    with Receiver(lambda call: Reply(400 if call.event_id in refuses else 204)) as receiver:
        subscribe(weir, "fenced", f"{receiver.url}/fenced")
        decider = Decider(kafka, own_name)
        with Webhooks(kafka, file).wait_ready() as frozen:
            until(_taken(receiver, decider.decide(3)), frozen.log.read_text)
            os.kill(frozen.process.pid, signal.SIGSTOP)
            made = decider.decide(6)
            with Webhooks(kafka, file).wait_ready() as successor:
                until(_taken(receiver, [e for e in made if e not in refuses]), successor.log.read_text)
                until(lambda: len(letters_of(kafka, "fenced")) == 1, successor.log.read_text)
                os.kill(frozen.process.pid, signal.SIGCONT)
                until(lambda: "another process serves it" in frozen.log.read_text(), frozen.log.read_text)
                until(_taken(receiver, decider.decide(3)), successor.log.read_text)
                assert len(letters_of(kafka, "fenced")) == 1


def _taken(receiver: Receiver, made: list[str]) -> Callable[[], bool]:
    return lambda: set(events(receiver.taken("/fenced"))) >= set(made)


def _noticed(own_servers: Servers) -> bool:
    """Whether its death is known; it is started again by whoever waits for its health."""
    own_servers.supervisor.poll()
    return not own_servers.supervisor.healthy(("kafka",))


def test_a_broker_that_dies_is_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One of our own; the process goes on by itself."""
    environ = {name: value for name, value in os.environ.items() if not re.fullmatch("WEIR_[A-Z]+_PORT", name)}
    with running(tmp_path / "data", environ=environ) as own_servers, Receiver() as receiver:
        kafka, file = own_servers.endpoints.kafka, tmp_path / "webhooks.yaml"
        create_topics(kafka, 2, 1)
        argv = ("add", "back", f"{receiver.url}/back", "--allow-private", "--file", str(file))
        assert main(["webhooks", *argv]) == 0
        with Webhooks(kafka, file).wait_ready() as process:
            made = Decider(kafka, "before").decide(5)
            until(lambda: set(events(receiver.taken("/back"))) == set(made), process.log.read_text)
            broker = own_servers.supervisor.pid("kafka")
            assert broker is not None
            os.kill(broker, signal.SIGKILL)
            until(lambda: _noticed(own_servers))
            own_servers.supervisor.wait_healthy(("kafka",), 90)
            made += Decider(kafka, "after").decide(5)
            until(lambda: set(events(receiver.taken("/back"))) == set(made), process.log.read_text)
            assert process.process.poll() is None
            assert "Traceback" not in process.log.read_text()


def test_it_stops_at_once_and_a_broken_file_leaves_what_is_in_force(
    kafka: str, file: Path, weir: Weir, own_name: str
) -> None:
    with Receiver() as receiver:
        subscribe(weir, "stays", f"{receiver.url}/stays")
        with Webhooks(kafka, file).wait_ready() as process:
            good = file.read_text()
            file.write_text("{")
            until(lambda: "what was in force stays so" in process.log.read_text(), process.log.read_text)
            made = Decider(kafka, own_name).decide(3)
            until(lambda: set(events(receiver.taken("/stays"))) == set(made), process.log.read_text)
            file.write_text(good)
            began_s = time.monotonic()
            process.process.send_signal(signal.SIGTERM)
            assert process.process.wait(10) == 0
            assert time.monotonic() - began_s < 5

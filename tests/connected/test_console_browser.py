"""The console in a real browser on a real mesh: signing in, every view, the analyst's work, hostile text, requeues."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from console_page import PASSWORD, VIEWS, Pages, add_people, browsing, shoot, show, sign_in
from playwright.sync_api import expect
from weir_process import Up

from services.mesh.adapters.log_reader import LogReader
from services.mesh.codec import Codec
from services.mesh.feature_set import pinned_feature_set
from services.mesh.topics import AUDIT, DECISIONS, EVENTS_RAW, LABELS, OUTCOMES_RAW, Topic
from services.platform.endpoints import Endpoints

WAIT_S_MAX = 60.0
# What an attacker would put into a field that a person will look at.
HOSTILE = "<img src=x onerror=\"window.hacked='yes'\"><script>window.hacked='yes'</script>"


class Mesh:
    """A running mesh without a sender."""

    def __init__(self, data: Path) -> None:
        self.data, endpoints = data, Endpoints.read(data)
        assert endpoints.console is not None
        self.url, self.kafka = endpoints.console, endpoints.kafka
        self._producer = Producer({"bootstrap.servers": self.kafka, "linger.ms": 5, "partitioner": "murmur2_random"})

    def send(self, *events: dict[str, Any] | bytes, key: str = "") -> None:
        """To ``events.raw.v1``, acknowledged."""
        for event in events:
            if isinstance(event, bytes):
                self._producer.produce(EVENTS_RAW.name, event, key)
            else:
                self._producer.produce(EVENTS_RAW.name, json.dumps(event), event["customer_id"])
        assert self._producer.flush(30) == 0

    def records(self, topic: Topic, codec: str | None = None) -> list[dict[str, Any]]:
        """Everything in a topic."""
        log = LogReader(self.kafka)
        read = Codec(codec or topic.schemas[0]).decode
        return [read(record.value) for record in log.read(log.starts(topic), log.ends(topic))]

    def pid(self, name: str) -> int:
        """Of one process."""
        return next(row["pid"] for row in json.loads((self.data / "pids.json").read_text()) if row["name"] == name)

    @contextmanager
    def stopped(self, *names: str) -> Iterator[None]:
        """Processes that are there and do not answer."""
        pids = [self.pid(name) for name in names]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)


def event(number: int | str, **more: Any) -> dict[str, Any]:
    """A payment of now."""
    base = {"event_id": f"e-{number}", "customer_id": f"c-{number}", "terminal_id": "t-1", "amount_minor": 2_350}
    return base | {"event_time_ms": time.time_ns() // 1_000_000, "country": "FR", "channel": "web"} | more


def until(holds: Callable[[], Any], what: str) -> Any:
    end_s = time.monotonic() + WAIT_S_MAX
    while not (found := holds()):
        assert time.monotonic() < end_s, f"{what}: not in {WAIT_S_MAX:.0f} s"
        time.sleep(0.2)
    return found


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    data = tmp_path_factory.mktemp("console") / "data"
    with Up(data, "--no-input", "--partitions", "4") as up:
        up.wait_ready()
        up.wait_for(r"user admin, password \S{20}\n")
        add_people(data)
        yield Mesh(data)
        up.interrupt(signal.SIGTERM, group=False)


@pytest.fixture(scope="module")
def browser(mesh: Mesh) -> Iterator[Pages]:
    with browsing(mesh.url) as pages:
        yield pages


@pytest.fixture
def pages(browser: Pages) -> Iterator[Pages]:
    """What any page complains about, a broken Content-Security-Policy among it, fails the test."""
    browser.complaints.clear()
    yield browser
    assert browser.complaints == []


def test_every_view_of_a_mesh_that_nothing_has_happened_on(pages: Pages) -> None:
    with pages.page() as page:
        expect(page.locator(".pulse")).to_contain_text("0 waiting")
        for view in VIEWS:
            show(page, view)
            shoot(page, "empty", view, "laptop", "light")
        show(page, "decisions")
        expect(page.locator("main")).to_contain_text("Decisions appear here as they are made.")
        show(page, "models")
        expect(page.locator("main")).to_contain_text("No model yet.")


def test_signing_in_and_what_each_role_is_shown(pages: Pages) -> None:
    with pages.page(None) as page:
        sign_in(page, "vic", "not-the-password")
        expect(page.get_by_role("alert")).to_have_text("user or password is wrong")
        sign_in(page, "vic")
        expect(page.locator("main .head h1")).to_have_text("Flow")
        expect(page.locator(".side")).not_to_contain_text("Review")
        page.goto(f"{pages.url}/#/review")
        expect(page.locator("main .head h1")).to_have_text("Flow")  # not for viewers, whatever the address says
        page.reload()
        expect(page.locator("main .head h1")).to_be_visible()
        page.keyboard.press("Tab")
        expect(page.locator(".skip")).to_be_focused()
        page.locator(".menu summary").click()
        page.locator("#sign-out").click()
        expect(page.locator("#name")).to_be_focused()
        assert page.evaluate("fetch('/api/models').then((answer) => answer.status)") == 401
    with pages.page("rita") as page:
        expect(page.locator(".side")).not_to_contain_text("Review")
        show(page, "backtests")
        expect(page.get_by_role("button", name="Run the backtest")).to_be_visible()
    with pages.page("vera") as page:
        expect(page.locator(".side")).to_contain_text("Review")
        show(page, "backtests")
        expect(page.get_by_role("button", name="Run the backtest")).to_have_count(0)


def test_an_analysts_verdict_by_keyboard_becomes_a_label_and_changes_the_terminals_features(
    mesh: Mesh, pages: Pages
) -> None:
    mesh.send(event("large", terminal_id="t-9", amount_minor=250_000), event("small", terminal_id="t-9"))
    with pages.page("vera") as page:
        page.keyboard.press("g")
        page.keyboard.press("r")
        expect(page.locator("main .head h1")).to_have_text("Review")
        expect(page.locator(".cases")).to_contain_text("2,500.00 EUR")
        expect(page.locator(".bench")).to_contain_text("The way it went")  # the event's own history is beside the case
        page.keyboard.press("f")
        expect(page.locator("#main .hint[role=status]")).to_have_text("Claim it first: c")
        page.keyboard.press("c")
        expect(page.locator(".work")).to_contain_text("Yours for another")
        shoot(page, "claimed", "review", "laptop", "light")
        page.keyboard.press("f")
        page.keyboard.type("The customer did not make it")
        page.keyboard.press("Enter")
        expect(page.locator("#main .hint[role=status]")).to_contain_text("Said: fraud")

    outcomes = until(lambda: mesh.records(OUTCOMES_RAW), "an outcome")
    assert [(o["event_id"], o["label"], o["source"]) for o in outcomes] == [("e-large", "fraud", "analyst")]
    labels = until(lambda: mesh.records(LABELS), "a label")
    assert [(found["event_id"], found["label"], found["label_source"]) for found in labels] == [
        ("e-large", "fraud", "analyst")
    ]
    done = [(entry["actor"], entry["action"]) for entry in mesh.records(AUDIT)]
    assert ("vera", "review.claim") in done
    assert any(who == "vera" and what.startswith("review.") and what != "review.claim" for who, what in done)

    names = pinned_feature_set().names
    known = names.index("terminal_known_labels_7d")

    def labels_known(event_id: str) -> float | None:
        import numpy as np

        found = [d for d in mesh.records(DECISIONS) if d["event_id"] == event_id]
        return float(np.frombuffer(found[0]["vector"], dtype="<f4")[known]) if found else None

    assert until(lambda: labels_known("e-small") is not None, "a decision")
    assert labels_known("e-small") == 0.0
    numbers = iter(range(100))

    def changed() -> bool:
        number = f"after-{next(numbers)}"
        mesh.send(event(number, terminal_id="t-9"))
        return bool(
            until(lambda: labels_known(f"e-{number}") is not None, "a decision") and labels_known(f"e-{number}")
        )

    assert until(changed, "the terminal's features")


def test_a_script_in_an_event_is_only_ever_text(mesh: Mesh, pages: Pages) -> None:
    mesh.send(event(HOSTILE, amount_minor=9_999), f'{{"event_id": "e-bad", "country": "{HOSTILE}'.encode(), key="k")
    mesh.send(event("hostile", surprise=HOSTILE))
    decided = until(lambda: [d for d in mesh.records(DECISIONS) if HOSTILE in d["event_id"]], "a decision")
    with pages.page("sue") as page:
        show(page, "decisions")
        expect(page.locator("main")).to_contain_text(f"e-{HOSTILE}")
        page.get_by_role("link", name=decided[0]["event_id"]).first.click()
        expect(page.locator("main")).to_contain_text("The way it went")
        expect(page.locator("main")).to_contain_text(f"c-{HOSTILE}")
        for summary in page.locator("main summary").all():
            summary.click()
        shoot(page, "hostile", "trace", "laptop", "light")
        show(page, "dead-letters")
        expect(page.locator("main table")).to_contain_text("malformed json")
        for button in page.locator("main table tbody button").all():
            button.click()
            expect(page.locator("dialog pre")).to_contain_text("onerror")
            page.keyboard.press("Escape")
        assert page.evaluate("window.hacked") is None
        assert page.locator("main img, main script, dialog img").count() == 0


def test_the_page_cannot_run_or_load_what_is_not_its_own(mesh: Mesh, pages: Pages) -> None:
    """The policy itself, were our own code to fail: markup, handlers, inline scripts and other hosts are refused."""
    with pages.page("vic") as page:
        told = page.evaluate(
            """async () => {
              const broken = [];
              document.addEventListener('securitypolicyviolation', (event) => broken.push(event.effectiveDirective));
              const tried = {};
              try { document.body.innerHTML += '<b>x</b>'; tried.markup = 'done'; } catch { tried.markup = 'refused'; }
              const script = document.createElement('script');
              try { script.textContent = "window.hacked = 'inline'"; document.body.append(script); } catch { }
              const button = document.createElement('button');
              try { button.setAttribute('onclick', "window.hacked = 'handler'"); button.click(); } catch { }
              tried.elsewhere = await fetch('http://127.0.0.1:9/').then(() => 'done', () => 'refused');
              await new Promise((done) => setTimeout(done, 200));
              return { tried, broken, hacked: window.hacked ?? null };
            }"""
        )
    assert told["tried"] == {"markup": "refused", "elsewhere": "refused"}
    assert told["hacked"] is None
    assert "connect-src" in told["broken"]
    pages.complaints.clear()  # the refusals are what was asked for


def test_what_was_refused_is_sent_once_more_from_the_page(mesh: Mesh, pages: Pages) -> None:
    mesh.send(event("late", event_time_ms=1_600_000_000_000), event("typo", amuont=1))
    with pages.page("rita") as page:
        show(page, "dead-letters")

        def listed() -> int:
            page.get_by_role("button", name="Look again").click()
            page.wait_for_timeout(300)
            return page.locator("tbody tr", has_text="amuont").count()

        assert until(listed, "a dead letter") == 1
        page.locator("tbody tr", has_text="amuont").get_by_role("checkbox").check()
        page.get_by_role("button", name="Send 1 once more").click()
        page.get_by_role("button", name="Send", exact=True).click()
        expect(page.locator("#main .hint[role=status]")).to_have_text("1 sent once more.")
        assert until(lambda: listed() == 2, "the second refusal")  # its bytes are what they were
    asked = [entry for entry in mesh.records(AUDIT) if entry["action"] == "dead_letter.requeue"]
    assert [(entry["actor"], entry["origin"]) for entry in asked] == [("rita", "console")]
    with pages.page("vic") as page:
        show(page, "dead-letters")
        expect(page.locator("tbody tr")).not_to_have_count(0)
        assert page.get_by_role("checkbox").count() == 0


def test_a_backtest_is_run_and_shown(pages: Pages) -> None:
    with pages.page("rita") as page:
        show(page, "backtests")
        page.get_by_role("button", name="Begin with the one in force").click()
        policy = page.get_by_label("Policy, YAML")
        expect(policy).to_have_value(re.compile("payments-default"))
        policy.fill("name: broken\nrules: 7\n")
        page.get_by_role("button", name="Run the backtest").click()
        expect(page.get_by_role("alert")).to_contain_text("rules")
        page.get_by_role("button", name="Begin with the one in force").click()
        expect(policy).to_have_value(re.compile("payments-default"))
        page.get_by_role("button", name="Run the backtest").click()
        expect(page.locator("main")).to_contain_text("would be decided otherwise")
        expect(page.locator("main")).to_contain_text("rita")
        shoot(page, "done", "backtests", "laptop", "light")


@pytest.fixture
def load(mesh: Mesh) -> Iterator[None]:
    """Payments all the time, some of them large or wrong."""
    ended = threading.Event()

    def run() -> None:
        number = 0
        while not ended.wait(0.1):
            more = [
                {"amount_minor": 300 + 7 * n % 9_000, "terminal_id": f"t-{n % 9}"} for n in range(number, number + 20)
            ]
            mesh.send(
                *(
                    event(f"load-{number + n}", customer_id=f"c-{(number + n) % 900}", **one)
                    for n, one in enumerate(more)
                )
            )
            if number % 400 == 0:
                mesh.send(event(f"large-{number}", amount_minor=260_000), event(f"wrong-{number}", typo=1))
            number += 20

    sender = threading.Thread(target=run, daemon=True)
    sender.start()
    yield
    ended.set()
    sender.join(30)


@pytest.mark.usefixtures("load")
def test_every_view_under_load_in_light_and_dark_on_laptop_and_phone(mesh: Mesh, pages: Pages) -> None:
    decided = until(lambda: mesh.records(DECISIONS)[-1:], "a decision")[0]
    with pages.page() as page:
        expect(page.locator(".hop").first).to_contain_text("running", use_inner_text=False)
        before = page.locator(".rate span").first.inner_text()
        page.wait_for_function("was => document.querySelector('.rate span').textContent !== was", arg=before)
    for size in ("laptop", "phone"):
        for theme in ("light", "dark"):
            with pages.page(size=size, theme=theme) as page:
                for view in VIEWS:
                    show(page, view)
                    shoot(page, "load", view, size, theme)
                page.evaluate("path => { location.hash = path; }", f"#/trace/{decided['event_id']}")
                expect(page.locator("main")).to_contain_text("The way it went")
                shoot(page, "load", "trace-one", size, theme)


def test_the_theme_can_be_chosen_and_is_kept(pages: Pages) -> None:
    with pages.page(theme="light") as page:
        paper = "getComputedStyle(document.body).backgroundColor"
        light = page.evaluate(paper)
        page.get_by_role("button", name="Theme: system. Change it").press("Enter")
        page.get_by_role("button", name="Theme: light. Change it").press("Enter")
        dark = page.evaluate(paper)
        assert dark != light
        page.reload()
        expect(page.locator("main .head h1")).to_be_visible()
        assert page.evaluate(paper) == dark


def test_what_is_away_is_said_plainly_and_comes_back(mesh: Mesh, pages: Pages) -> None:
    with pages.page() as page, mesh.stopped("redis", "scoring-0", "lookup"):
        expect(page.locator(".notice", has_text="Redis does not answer.")).to_be_visible()
        expect(page.locator(".notice", has_text="scoring does not answer.")).to_be_visible()
        expect(page.locator(".pulse .chip")).to_have_text("needs a look")
        for view in ("flow", "review", "latency"):
            show(page, view)
            shoot(page, "degraded", view, "laptop", "light")
        expect(page.locator(".side")).to_be_visible()
    with pages.page(size="phone", theme="dark") as page:
        show(page, "review")
        expect(page.locator(".notice", has_text="Redis does not answer.")).to_have_count(0)


def test_a_console_that_restarts_is_noticed_and_asks_who_one_is(mesh: Mesh, pages: Pages) -> None:
    with pages.page("vic") as page:
        os.kill(mesh.pid("console"), signal.SIGKILL)
        expect(page.locator(".notice", has_text="This page is not connected.")).to_be_visible()
        shoot(page, "away", "flow", "laptop", "light")
        expect(page.locator("#name")).to_be_visible()  # its sessions were in memory
        sign_in(page, "vic", PASSWORD)
        expect(page.locator("main .head h1")).to_have_text("Flow")

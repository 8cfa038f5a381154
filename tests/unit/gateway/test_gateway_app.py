"""Every path over HTTP, on a desk of hand-made ends: who may, what is refused and how it is said."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any, cast

import httpx
import pytest

from services.gateway import door as door_module
from services.gateway.app import make_app
from services.gateway.desk import Desk
from services.gateway.door import Door
from services.gateway.gate import Gate
from services.gateway.limits import AtWork, Rates
from services.gateway.memory import Memory
from services.gateway.problem import Kind
from services.gateway.settings import GatewaySettings
from services.gateway.verdicts import Decided
from services.gateway.waiting import Waiters
from services.mesh.adapters.system_clock import SystemClock
from services.mesh.errors import Fatal, Transient
from services.mesh.settings import Environment
from services.mesh.telemetry import StageTelemetry
from services.mesh.tokens import SCOPES, Scope, Token, TokenBook, hash_of
from tests.unit.gateway.ends import EVENT, KEY, Ends, event

OUTCOME = {"event_id": "e", "customer_id": "c", "label": "fraud", "source": "analyst", "observed_time_ms": 9}
# Path, method, body, the scopes of which one is needed.
CALLS: list[tuple[str, str, Any, set[Scope]]] = [
    ("/v1/events", "POST", EVENT, {"events:write"}),
    ("/v1/events:batch", "POST", [EVENT], {"events:write"}),
    ("/v1/decide", "POST", EVENT, {"decide"}),
    ("/v1/decisions/e?customer_id=c", "GET", None, {"decisions:read", "decide"}),
    ("/v1/outcomes", "POST", OUTCOME, {"outcomes:write"}),
]


def token(name: str, scopes: set[Scope], secret: str, expires_ms: int | None = None) -> Token:
    return Token(name=name, scopes=frozenset(scopes), sha256=hash_of(secret), created_ms=0, expires_ms=expires_ms)


class House:
    """The application with ends that do what a test says."""

    def __init__(self, at_work_max: int = 10, rate: float = 1_000) -> None:
        clock, self.ends = SystemClock(), Ends()
        self.ends.waiters = Waiters()
        self.telemetry = StageTelemetry("gateway", clock)
        fake = cast(Any, self.ends)
        desk = Desk(
            publisher=fake, follower=fake, finder=fake, waiters=self.ends.waiters,
            telemetry=self.telemetry, clock=clock, events=Memory(), outcomes=Memory(),
        )  # fmt: skip
        self.book: TokenBook | Fatal = TokenBook(
            (
                *(token(scope.replace(":", "-"), {scope}, scope) for scope in SCOPES),
                token("old", set(SCOPES), "old", expires_ms=1),
            )
        )
        environment = Environment({"WEIR_DEADLINE": "50ms", "WEIR_BATCH_EVENTS_MAX": "3"})
        self.app = make_app(desk, Door(self._tokens, Rates(rate, rate), clock), GatewaySettings.read(environment))
        ids = iter(f"r{number}" for number in range(1_000))
        gate = Gate(self.app, AtWork(at_work_max), self.telemetry, clock, lambda: next(ids))
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(gate, raise_app_exceptions=False), base_url="http://gateway"
        )

    def _tokens(self) -> TokenBook:
        if isinstance(self.book, Fatal):
            raise self.book
        return self.book

    async def call(self, path: str, method: str, body: Any, secret: str, **headers: str) -> httpx.Response:
        given = {"authorization": f"Bearer {secret}"} | {name.replace("_", "-"): text for name, text in headers.items()}
        if isinstance(body, bytes):
            return await self.http.request(method, path, content=body, headers=given)
        return await self.http.request(method, path, json=body, headers=given)


def in_house(work: Callable[[House], Awaitable[None]], **settings: Any) -> None:
    async def run() -> None:
        house = House(**settings)
        async with house.http:
            await work(house)

    asyncio.run(run())


def problem(response: httpx.Response, kind: Kind) -> dict[str, Any]:
    """Its document, which is one of ``kind``."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    document: dict[str, Any] = response.json()
    assert (response.status_code, document["status"]) == (kind.status, kind.status), document
    assert document["type"] == f"/docs#{kind.path}"
    assert document["title"] == kind.title
    assert document["detail"]
    return document


@pytest.mark.parametrize(("path", "method", "body", "scopes"), CALLS)
def test_each_path_is_open_to_its_scopes_alone(path: str, method: str, body: Any, scopes: set[Scope]) -> None:
    async def work(house: House) -> None:
        for scope in SCOPES:
            response = await house.call(path, method, body, scope)
            if scope in scopes:
                assert response.status_code in (202, 404), response.text
            else:
                detail = problem(response, Kind.FORBIDDEN)["detail"]
                assert set(detail.partition("this needs ")[2].split(" or ")) == scopes
                assert 'error="insufficient_scope"' in response.headers["www-authenticate"]
        for secret in ("", "wrong", "old", "decid"):
            problem(await house.call(path, method, body, secret), Kind.UNAUTHENTICATED)
        for header in ("", "Basic ZGVjaWRl", "decide", "Bearer", "Bearer\tdecide"):
            refused = await house.http.request(method, path, json=body, headers={"authorization": header})
            problem(refused, Kind.UNAUTHENTICATED)
            assert refused.headers["www-authenticate"] == 'Bearer realm="weir"'

    in_house(work)


def test_the_paths_are_those_that_are_documented_and_each_needs_a_token() -> None:
    async def work(house: House) -> None:
        document = (await house.http.get("/openapi.json")).json()
        documented = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
        known = {(re.sub(r"/e\?.*", "/{event_id}", path), method) for path, method, _, _ in CALLS}
        assert {(path.replace(":path", ""), method) for path, method in documented} == known
        assert all(operation["security"] for methods in document["paths"].values() for operation in methods.values())
        served = {route.path for route in house.app.routes}  # type: ignore[attr-defined]
        assert served - {path for path, _ in documented} <= {
            "/",
            "/docs",
            "/openapi.json",
            "/v1/decisions/{event_id:path}",
        }

    in_house(work)


def test_the_documentation_is_one_page_without_scripts_and_links_that_lead_somewhere() -> None:
    async def work(house: House) -> None:
        page = (await house.http.get("/docs")).text
        assert "<script" not in page
        assert not re.findall(r"(?:src|href)='(?:https?:)?//", page)
        assert set(re.findall(r"href='#([^']+)'", page)) <= set(re.findall(r"id='([^']+)'", page))
        assert {kind.path for kind in Kind} <= set(re.findall(r"id='([^']+)'", page))
        for path, *_ in CALLS:
            assert path.partition("/e?")[0] in page

    in_house(work)


def test_documented_examples_are_taken() -> None:
    async def work(house: House) -> None:
        paths = (await house.http.get("/openapi.json")).json()["paths"]
        for path, _, body, scopes in CALLS:
            if body is None:
                continue
            example = paths[path]["post"]["requestBody"]["content"]["application/json"]["example"]
            assert (await house.call(path, "POST", example, next(iter(scopes)))).status_code == 202

    in_house(work)


def test_every_answer_has_safe_headers_and_an_id() -> None:
    async def work(house: House) -> None:
        for response in (
            await house.call("/v1/events", "POST", EVENT, "events:write"),
            await house.http.get("/nowhere"),
            await house.http.get("/docs"),
            await house.call("/v1/events", "POST", b"{", "events:write", x_request_id="a b"),
        ):
            assert response.headers["x-content-type-options"] == "nosniff"
            assert response.headers["cache-control"] == "no-store"
            assert "default-src 'none'" in response.headers["content-security-policy"]
            assert re.fullmatch("r[0-9]+", response.headers["x-request-id"])
        kept = await house.call("/v1/events", "POST", EVENT, "events:write", x_request_id="mine-1")
        assert kept.headers["x-request-id"] == "mine-1"

    in_house(work)


def test_an_accepted_event_says_where_its_decision_and_its_trace_are() -> None:
    async def work(house: House) -> None:
        odd = EVENT | {"event_id": "a/b c?d", "customer_id": "é&x"}
        first = await house.call("/v1/events", "POST", odd, "events:write")
        again = await house.call("/v1/events", "POST", odd, "events:write")
        assert (first.status_code, first.json()) == (202, again.json())
        url = first.json()["decision_url"]
        assert url == first.headers["location"] == "/v1/decisions/a%2Fb%20c%3Fd?customer_id=%C3%A9%26x"
        assert first.headers["traceparent"].split("-")[1] == first.json()["trace_id"]
        asked = await house.call(url, "GET", None, "decisions:read")
        assert (asked.status_code, asked.json()["why"]) == (202, "pending")
        assert (asked.json()["event_id"], asked.json()["customer_id"]) == ("a/b c?d", "é&x")

    in_house(work)


def test_decide_tells_the_decision() -> None:
    async def work(house: House) -> None:
        told = {"event_id": "e", "customer_id": "c", "action": "approve"}
        house.ends.on_append = lambda value: house.ends.waiters.tell(KEY, Decided(told, event().body_hash))
        response = await house.call("/v1/decide", "POST", EVENT, "decide")
        assert (response.status_code, response.json()) == (
            200,
            told | {"decided": True, "trace_id": event().trace.hex()},
        )

    in_house(work)


def test_a_deadline_that_passes_is_no_decision_and_says_what_to_do() -> None:
    async def work(house: House) -> None:
        response = await house.call("/v1/decide", "POST", EVENT, "decide", weir_deadline_ms="20")
        assert response.status_code == 202
        assert response.json() == {
            "decided": False, "why": "deadline", "action": "challenge", "event_id": "e", "customer_id": "c",
            "trace_id": event().trace.hex(), "decision_url": "/v1/decisions/e?customer_id=c",
        }  # fmt: skip
        house.ends.failure = Transient("broker away")
        document = problem(await house.call("/v1/decide", "POST", EVENT, "decide"), Kind.AWAY)
        assert (document["decided"], document["action"]) == (False, "challenge")

    in_house(work)


@pytest.mark.parametrize("deadline", ["", "9", "30001", "1.5", "-20", "abc", "1e3", "９９", "99999999999999999999"])
def test_a_deadline_is_a_number_of_milliseconds(deadline: str) -> None:
    async def work(house: House) -> None:
        headers = {b"authorization": b"Bearer decide", b"weir-deadline-ms": deadline.encode()}
        refused = await house.http.post("/v1/decide", json=EVENT, headers=headers)
        assert problem(refused, Kind.PARAMETER)["field"] == "weir-deadline-ms"
        assert house.ends.appended == []

    in_house(work)


def test_a_wrong_field_is_named_with_its_value_and_its_remedy() -> None:
    async def work(house: House) -> None:
        refused = await house.call("/v1/events", "POST", EVENT | {"amount_minor": -5}, "events:write")
        document = problem(refused, Kind.INVALID)
        assert (document["code"], document["field"]) == ("out_of_range", "amount_minor")
        assert document["detail"] == "amount_minor=-5: must lie in 0..1000000000000000"
        assert (
            problem(await house.call("/v1/events", "POST", b"{", "events:write"), Kind.MALFORMED)["code"]
            == "malformed_json"
        )
        assert house.ends.appended == []

    in_house(work)


def test_a_batch_answers_item_by_item() -> None:
    async def work(house: House) -> None:
        items = [EVENT, EVENT | {"event_id": "e2", "currency": "eur"}, EVENT | {"amount_minor": 6}]
        response = await house.call("/v1/events:batch", "POST", items, "events:write")
        body = response.json()
        assert (response.status_code, body["accepted"], body["refused"]) == (207, 1, 2)
        assert [item["status"] for item in body["items"]] == [202, 422, 409]
        assert body["items"][1]["problem"]["field"] == "currency"
        problem(await house.call("/v1/events:batch", "POST", [EVENT] * 4, "events:write"), Kind.TOO_LARGE)

    in_house(work)


def test_bodies_beyond_a_limit_are_refused_before_they_are_whole() -> None:
    async def work(house: House) -> None:
        large = json.dumps(EVENT).encode() + b" " * 65_536
        problem(await house.call("/v1/events", "POST", large, "events:write"), Kind.TOO_LARGE)
        taken = 0

        async def drip() -> Any:
            nonlocal taken
            for _ in range(1_000):
                taken += 1
                yield b" " * 10_000

        headers = {"authorization": "Bearer events:write", "content-type": "application/json"}
        cut = await house.http.post("/v1/events", content=drip(), headers=headers)
        problem(cut, Kind.TOO_LARGE)
        assert cut.headers["connection"] == "close"  # nobody waits for the rest

    in_house(work)


def test_a_body_that_drips_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "BODY_S_MAX", 0.05)

    async def work(house: House) -> None:
        async def drip() -> Any:
            for byte in json.dumps(EVENT).encode():
                yield bytes([byte])
                await asyncio.sleep(0.01)

        headers = {"authorization": "Bearer events:write", "content-type": "application/json"}
        cut = await house.http.post("/v1/events", content=drip(), headers=headers)
        problem(cut, Kind.SLOW)
        assert cut.headers["connection"] == "close"
        assert house.ends.appended == []

    in_house(work)


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-encoding": "gzip"},
    ],
)
def test_only_plain_json_is_read(headers: dict[str, str]) -> None:
    async def work(house: House) -> None:
        given = {"authorization": "Bearer events:write", **headers}
        problem(await house.http.post("/v1/events", content=json.dumps(EVENT), headers=given), Kind.MEDIA)

    in_house(work)


def test_a_token_that_is_too_fast_is_told_when_to_come_again() -> None:
    async def work(house: House) -> None:
        assert (await house.call("/v1/events", "POST", EVENT, "events:write")).status_code == 202
        refused = await house.call("/v1/events:batch", "POST", [EVENT] * 3, "events:write")
        problem(refused, Kind.TOO_FAST)
        assert int(refused.headers["retry-after"]) >= 1

    in_house(work, rate=2)


def test_too_many_at_once_are_refused_and_the_rest_is_answered() -> None:
    async def work(house: House) -> None:
        calls = [
            house.call("/v1/decide", "POST", EVENT | {"event_id": f"e{number}"}, "decide", weir_deadline_ms="200")
            for number in range(4)
        ]
        responses = await asyncio.gather(*calls)
        assert sorted(response.status_code for response in responses) == [202, 202, 503, 503]
        refused = next(response for response in responses if response.status_code == 503)
        problem(refused, Kind.BUSY)
        assert (refused.headers["retry-after"], refused.headers["x-content-type-options"]) == ("1", "nosniff")
        assert (await house.call("/v1/events", "POST", EVENT, "events:write")).status_code == 202

    in_house(work, at_work_max=2)


def test_paths_and_methods_that_are_not_there_are_problems_too() -> None:
    async def work(house: House) -> None:
        problem(await house.http.get("/v1/nothing"), Kind.NOT_FOUND)
        problem(await house.http.delete("/v1/events"), Kind.METHOD)
        refused = await house.call("/v1/decisions/e", "GET", None, "decisions:read")
        assert problem(refused, Kind.PARAMETER)["field"] == "customer_id"
        long = await house.call(f"/v1/decisions/{'x' * 129}?customer_id=c", "GET", None, "decisions:read")
        assert problem(long, Kind.PARAMETER)["field"] == "event_id"

    in_house(work)


def test_a_mistake_of_ours_tells_nothing_of_the_inside() -> None:
    async def work(house: House) -> None:
        def fail(value: bytes) -> None:
            raise RuntimeError("inside")

        house.ends.on_append = fail
        refused = await house.call("/v1/events", "POST", EVENT, "events:write")
        problem(refused, Kind.BUG)
        assert "inside" not in refused.text

    in_house(work)


def test_tokens_that_cannot_be_read_admit_nobody() -> None:
    async def work(house: House) -> None:
        house.book = Fatal("tokens.json is not a file of tokens")
        problem(await house.call("/v1/events", "POST", EVENT, "events:write"), Kind.AWAY)
        assert house.ends.appended == []

    in_house(work)


def test_requests_are_counted_by_path_and_status() -> None:
    async def work(house: House) -> None:
        await house.call("/v1/events", "POST", EVENT, "events:write")
        await house.http.get("/../../etc/passwd")
        await house.http.get("/v1/decisions/secret-id?customer_id=c")
        counts = {
            sample.labels["answer"]: sample.value
            for metric in house.telemetry.metrics.registry.collect()
            for sample in metric.samples
            if sample.name == "weir_requests_total"
        }
        assert counts == {"events 202": 1, "other 404": 1, "decisions 401": 1}

    in_house(work)

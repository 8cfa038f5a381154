"""The paths, and what they look like to a caller."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

import orjson
from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from services.gateway import answers
from services.gateway.bodies import BATCH_BYTES_MAX, Posted, event_in, events_in, outcome_in
from services.gateway.desk import Desk, NotYet
from services.gateway.docs_page import docs_page
from services.gateway.door import Door
from services.gateway.problem import MEDIA_TYPE, Kind, Problem
from services.gateway.settings import DEADLINE_MS_MAX, DEADLINE_MS_MIN, GatewaySettings
from services.gateway.verdicts import Decided, Refused, problem_of_refusal
from services.mesh.errors import Poison
from services.mesh.event_fields import EVENT_BYTES_MAX, check_text
from services.mesh.headers import TRACEPARENT, traceparent_of
from services.mesh.identity import identity_of

DEADLINE_HEADER: Final = "weir-deadline-ms"
_DESCRIPTION: Final = """\
Payments in, decisions out. Every body is JSON in UTF-8; every refusal is `application/problem+json` (RFC 9457) that
names the value, the place and the remedy. Send `Authorization: Bearer <token>`; `weir tokens create` makes one.

An event's identity is `customer_id` with `event_id`. Sending it again is harmless; the same identity with another body
is a conflict. `503` promises nothing: send the same again."""


def make_app(desk: Desk, door: Door, settings: GatewaySettings) -> FastAPI:
    """The application; its parts are open already."""
    app = FastAPI(title="Weir gateway", version="1", description=_DESCRIPTION, docs_url=None, redoc_url=None)
    routes = _Routes(desk, door, settings)

    def add(method: str, path: str, call: Any, status: int, *said: int, **more: Any) -> None:
        responses: dict[int | str, dict[str, Any]] = dict.fromkeys((*said, 401, 403, 429, 503), _PROBLEM)
        app.add_api_route(
            path, call, methods=[method], status_code=status, responses=responses | more.pop("also", {}), **more
        )

    add("POST", "/v1/events", routes.post_event, 202, 400, 409, 413, 415, 422, response_model=answers.Accepted,
        summary="Send an event", openapi_extra=_takes(answers.Event, "events:write"))  # fmt: skip
    add("POST", "/v1/events:batch", routes.post_events, 202, 400, 413, 415, response_model=answers.Batch,
        summary="Send some events", openapi_extra=_takes(answers.Event, "events:write", many=True),
        also={207: {"model": answers.Batch, "description": "Some were not accepted."}})  # fmt: skip
    add("POST", "/v1/decide", routes.decide, 200, 400, 409, 413, 415, 422, response_model=answers.Decision,
        summary="Send an event and wait for its decision",
        openapi_extra=_takes(answers.Event, "decide", deadline=True),
        also={202: {"model": answers.Undecided, "description": "Durable; no decision yet."}})  # fmt: skip
    add("GET", "/v1/decisions/{event_id:path}", routes.find, 200, 400, 404, response_model=answers.Decision,
        summary="What became of an event", openapi_extra={"security": [{"bearer": ["decisions:read"]}]},
        also={202: {"model": answers.Undecided, "description": "Accepted here; on its way."}})  # fmt: skip
    add("POST", "/v1/outcomes", routes.post_outcome, 202, 400, 409, 413, 415, 422,
        response_model=answers.AcceptedOutcome, summary="Say what an event turned out to be",
        openapi_extra=_takes(answers.Outcome, "outcomes:write"))  # fmt: skip
    _add_docs(app)
    app.add_exception_handler(Problem, _told)
    app.add_exception_handler(RequestValidationError, _wrong_parameter)
    app.add_exception_handler(HTTPException, _no_such_path)
    app.add_exception_handler(Exception, _bug)
    return app


class _Routes:
    def __init__(self, desk: Desk, door: Door, settings: GatewaySettings) -> None:
        self._desk, self._door, self._settings = desk, door, settings

    async def post_event(self, request: Request) -> Response:
        """Answers 202 when the broker has acknowledged it: it becomes exactly one decision or one dead letter."""
        holder = self._door.holder(request, "events:write")
        self._door.check_rate(holder, 1)
        posted = event_in(await self._door.body(request, EVENT_BYTES_MAX))
        await self._desk.post_event(posted, holder.name)
        return _accepted(posted)

    async def post_events(self, request: Request) -> Response:
        """Each event is judged by itself: 202 when all were accepted, 207 when some were not; see each item's status.

        Acknowledged together, so a hundred cost little more time than one.
        """
        holder = self._door.holder(request, "events:write")
        items = events_in(await self._door.body(request, BATCH_BYTES_MAX), self._settings.batch_events_max)
        self._door.check_rate(holder, len(items))
        results = await self._desk.post_events(items, holder.name)
        told = [
            {"status": result.kind.status, "problem": result.members()}
            if isinstance(result, Problem)
            else {"status": 202, "accepted": _identity(result)}
            for result in results
        ]
        refused = sum(isinstance(result, Problem) for result in results)
        body = {"accepted": len(results) - refused, "refused": refused, "items": told}
        return _json(207 if refused else 202, body)

    async def decide(self, request: Request) -> Response:
        """Waits for the decision, at most until the deadline (header ``weir-deadline-ms``).

        200: the decision. 202: the event is durable and not decided yet; ``decided`` is false, ``action`` says what to
        do meanwhile, ``decision_url`` where the decision will be. 422: the mesh has refused it, ``code`` says why. 503:
        nothing is promised; ``action`` says what to do meanwhile.
        """
        began_s = self._desk.clock.monotonic_s()
        holder = self._door.holder(request, "decide")
        deadline_s = began_s + self._deadline_ms(request) / 1_000
        self._door.check_rate(holder, 1)
        posted = event_in(await self._door.body(request, EVENT_BYTES_MAX))
        metrics = self._desk.telemetry.metrics
        try:
            verdict = await self._desk.decide(posted, holder.name, deadline_s)
        except Problem as problem:
            if problem.kind is Kind.AWAY:
                problem.extra |= {"decided": False, "action": self._settings.fallback_action}
            raise
        finally:
            metrics.observe("weir_decide_seconds", self._desk.clock.monotonic_s() - began_s)
        if isinstance(verdict, Refused):
            raise problem_of_refusal(verdict)
        if isinstance(verdict, NotYet):
            metrics.add("weir_undecided", 1, verdict.why)
        return self._verdict(verdict, posted.event_id, posted.customer_id)

    async def find(
        self,
        request: Request,
        event_id: str = Path(description="The event's id.", examples=["e-1"]),
        customer_id: str = Query(description="Its customer: ids of events are unique within one.", examples=["c-42"]),
    ) -> Response:
        """200: the decision. 202: accepted here and on its way. 404: unknown, or refused (``code`` says why)."""
        holder = self._door.holder(request, "decisions:read", "decide")
        self._door.check_rate(holder, 1)
        try:
            check_text("event_id", event_id)
            check_text("customer_id", customer_id)
        except Poison as poison:
            raise Problem(Kind.PARAMETER, str(poison), field=poison.field) from None
        return self._verdict(await self._desk.find(event_id, customer_id), event_id, customer_id)

    async def post_outcome(self, request: Request) -> Response:
        """Answers 202 when the broker has acknowledged it. It may come before the decision, and more than once."""
        holder = self._door.holder(request, "outcomes:write")
        self._door.check_rate(holder, 1)
        posted = outcome_in(await self._door.body(request, EVENT_BYTES_MAX))
        await self._desk.post_outcome(posted, holder.name)
        body = {"outcome_id": posted.own_id, "event_id": posted.event_id, "customer_id": posted.customer_id}
        return _json(202, body | {"trace_id": posted.trace.hex()}, _trace(posted.trace))

    def _verdict(self, verdict: Decided | NotYet, event_id: str, customer_id: str) -> Response:
        trace = identity_of(customer_id, event_id)
        if isinstance(verdict, Decided):
            return _json(200, {"decided": True, "trace_id": trace.hex(), **verdict.told}, _trace(trace))
        url = _url(event_id, customer_id)
        body = {
            "decided": False,
            "why": verdict.why,
            "action": self._settings.fallback_action,
            "event_id": event_id,
            "customer_id": customer_id,
            "trace_id": trace.hex(),
            "decision_url": url,
        }
        return _json(202, body, _trace(trace) | {"location": url, "retry-after": "1"})

    def _deadline_ms(self, request: Request) -> int:
        given = request.headers.get(DEADLINE_HEADER)
        if given is None:
            return self._settings.deadline_ms
        if not (given.isascii() and given.isdigit() and DEADLINE_MS_MIN <= int(given[:9]) <= DEADLINE_MS_MAX):
            detail = f"{DEADLINE_HEADER}={given[:20]!r}: must be a whole number in {DEADLINE_MS_MIN}..{DEADLINE_MS_MAX}"
            raise Problem(Kind.PARAMETER, detail, field=DEADLINE_HEADER)
        return int(given)


def _accepted(posted: Posted) -> Response:
    body = _identity(posted)
    return _json(202, body, _trace(posted.trace) | {"location": body["decision_url"]})


def _identity(posted: Posted) -> dict[str, str]:
    return {
        "event_id": posted.event_id,
        "customer_id": posted.customer_id,
        "trace_id": posted.trace.hex(),
        "decision_url": _url(posted.event_id, posted.customer_id),
    }


def _url(event_id: str, customer_id: str) -> str:
    return f"/v1/decisions/{quote(event_id, safe='')}?customer_id={quote(customer_id, safe='')}"


def _trace(identity: bytes) -> dict[str, str]:
    return {TRACEPARENT: traceparent_of(identity).decode()}


def _json(status: int, body: Any, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), status, headers, "application/json")


async def _told(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, Problem)
    return Response(problem.body(), problem.kind.status, problem.all_headers(), MEDIA_TYPE)


async def _wrong_parameter(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = str(first["loc"][-1])
    return await _told(request, Problem(Kind.PARAMETER, f"{name}: {first['msg']}; see /docs", field=name))


async def _no_such_path(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    kind = Kind.METHOD if error.status_code == Kind.METHOD.status else Kind.NOT_FOUND
    detail = f"{request.method} {path}: {error.detail}; /docs names every path"
    return await _told(request, Problem(kind, detail, headers=error.headers))


async def _bug(request: Request, error: Exception) -> Response:
    """The cause is in the log, and nowhere else."""
    return await _told(request, Problem(Kind.BUG, "the gateway has made a mistake; its log says which"))


_PROBLEM: Final[dict[str, Any]] = {
    "description": "Refused.",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
}


def _takes(model: type[BaseModel], scope: str, *, many: bool = False, deadline: bool = False) -> dict[str, Any]:
    """A request body for the documentation: what reads it is no pydantic model."""
    one: dict[str, Any] = {"$ref": f"#/components/schemas/{model.__name__}"}
    schema = {"type": "array", "items": one, "minItems": 1} if many else one
    example = model.model_config["json_schema_extra"]["example"]  # type: ignore[index]
    content = {"application/json": {"schema": schema, "example": [example] if many else example}}
    extra: dict[str, Any] = {"requestBody": {"required": True, "content": content}, "security": [{"bearer": [scope]}]}
    if deadline:
        bounds = {"type": "integer", "minimum": DEADLINE_MS_MIN, "maximum": DEADLINE_MS_MAX}
        about = "How long to wait for the decision, counted from the request's arrival."
        extra["parameters"] = [{"name": DEADLINE_HEADER, "in": "header", "schema": bounds, "description": about}]
    return extra


def _drop_validation(document: dict[str, Any]) -> None:
    """FastAPI's own answer to a wrong parameter is never given here."""
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
    for methods in document["paths"].values():
        for operation in methods.values():
            told = operation["responses"].get("422", {}).get("content", {})
            if "HTTPValidationError" in str(told):
                del operation["responses"]["422"]


def _add_docs(app: FastAPI) -> None:
    usual = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = usual()
            parts = document["components"]
            for model in (answers.Event, answers.Outcome, answers.ProblemDocument):
                parts["schemas"][model.__name__] = model.model_json_schema()
            _drop_validation(document)
            parts["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
        assert app.openapi_schema is not None
        return app.openapi_schema

    async def page() -> Response:
        return HTMLResponse(docs_page(described()))

    async def home() -> Response:
        return RedirectResponse("/docs")

    app.openapi = described  # type: ignore[method-assign]
    app.add_api_route("/docs", page, include_in_schema=False)
    app.add_api_route("/", home, include_in_schema=False)

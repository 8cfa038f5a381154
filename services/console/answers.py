"""Answers as JSON, and whatever goes wrong in one form (RFC 9457)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from services.console.web import problem_bytes
from services.mesh.errors import Fatal, Transient
from services.mesh.review import Refused

_REFUSED: Final = {"unknown_case": 404, "queue_empty": 404, "reason_missing": 422}


def answer(found: Any) -> Response:
    """JSON; what is no number there (NaN) is null."""
    return Response(orjson.dumps(found), media_type="application/json")


def with_body(response: Response, found: Any) -> Response:
    """``response``, which has its cookies, with a body."""
    response.body = orjson.dumps(found)
    response.headers["content-length"] = str(len(response.body))
    return response


def add_problems(app: FastAPI) -> None:
    """Whatever goes wrong is told in one form."""
    handlers: dict[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
        HTTPException: _refused,
        RequestValidationError: _misfit,
        Refused: _not_now,
        Transient: _later,
        Fatal: _wrong,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


def _problem(status: int, why: str, headers: Mapping[str, str] | None = None, **more: Any) -> Response:
    return Response(
        problem_bytes(status, why, **more), status, headers=dict(headers or {}), media_type="application/problem+json"
    )


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _problem(error.status_code, str(error.detail), error.headers)


async def _misfit(request: Request, error: Exception) -> Response:
    """What was sent does not fit: the first thing that is wrong, without repeating what was sent."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return _problem(422, f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")


async def _not_now(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return _problem(_REFUSED.get(error.code, 409), str(error), code=error.code)


async def _later(request: Request, error: Exception) -> Response:
    return _problem(503, str(error), {"retry-after": "2"})


async def _wrong(request: Request, error: Exception) -> Response:
    return _problem(409, str(error))

"""The review queue in ``weir status``: how much waits for people, and whether the log agrees."""

from __future__ import annotations

from typing import Any

from services.cli.acting import wall_ms
from services.mesh.adapters.redis_review import RedisReviewQueue
from services.mesh.adapters.redis_store import connect
from services.mesh.currency import EXPONENTS
from services.mesh.errors import StoreUnreachable
from services.platform.case_account import CaseLedger

_ANSWER_WAIT_S = 5.0
_LOOKED_AT_MAX = 5_000
_MINUTE_MS = 60_000


def queue_status(url: str) -> dict[str, Any]:
    """Counts by shelf, claims that hold, when the next case is due, what is at stake; or why there is no answer."""
    client = connect(url, answer_wait_s=_ANSWER_WAIT_S)
    try:
        queue, now_ms = RedisReviewQueue(client), wall_ms()
        waiting = [filed for shelf in ("open", "escalated") for filed in queue.page(shelf, 0, _LOOKED_AT_MAX)]
        return {
            **{str(shelf): count for shelf, count in queue.counts().items()},
            "claimed": sum(until_ms > now_ms for _, until_ms in queue.held().values()),
            "next_due_in_ms": min((filed.case.opened["due_time_ms"] for filed in waiting), default=now_ms) - now_ms,
            "expected_loss_minor": sum(filed.case.opened["expected_loss_minor"] for filed in waiting),
            "house_currency": waiting[0].case.opened["house_currency"] if waiting else None,
        }
    except StoreUnreachable as error:
        return {"error": str(error)}
    finally:
        client.close()


def queue_line(queue: dict[str, Any]) -> str:
    """The same for people."""
    if "error" in queue:
        return f"review: {queue['error']}"
    counts = ", ".join(
        f"{queue[name]:,} {name}" for name in ("open", "claimed", "escalated", "overflowed", "judged", "closed")
    )
    if queue["house_currency"] is None:
        return f"review: {counts}"
    currency, left = queue["house_currency"], queue["next_due_in_ms"] // _MINUTE_MS
    loss = f"{queue['expected_loss_minor'] / 10 ** EXPONENTS[currency]:,.0f} {currency}"
    due = f"the next one is due in {left:,} min" if left >= 0 else f"the oldest was due {-left:,} min ago"
    return f"review: {counts}; {loss} to be expected; {due}"


def cases_line(cases: CaseLedger) -> str:
    """The account from the log."""
    return (
        f"reviews: {cases.reviews:,} decisions for people, {cases.cases:,} cases, {cases.closed:,} of them closed, "
        f"{cases.waiting:,} on their way; missing {cases.missing}, duplicates {cases.duplicates}, without a decision "
        f"{cases.strangers}"
    )

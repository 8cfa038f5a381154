"""Lowers a customer's limit for a day after every payment that was challenged: `PUT /customers/<id>/limit`.

Copy this file with `act_once.py`, change `limit_of`. It asks for a limit, not for a reduction: a value that is set
twice is the same value.

    KAFKA=127.0.0.1:9092 REGISTRY=http://127.0.0.1:8081/apis/ccompat/v7 TARGET=http://... python adjust_limit.py
"""

from typing import Any
from urllib.parse import quote

from act_once import Call, act_on

LIMIT_MINOR = 10_000
LIMITED_MS = 86_400_000


def limit_of(decision: dict[str, Any]) -> Call:
    """The limit, and until when."""
    path = f"/customers/{quote(decision['customer_id'], safe='')}/limit"
    until_ms = decision["event_time_ms"] + LIMITED_MS
    return "PUT", path, {"limit_minor": LIMIT_MINOR, "until_ms": until_ms, "event_id": decision["event_id"]}


if __name__ == "__main__":
    act_on("challenge", limit_of, group="adjust-limit")

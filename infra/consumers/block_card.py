"""Blocks the card of every declined payment: `POST /blocks`.

Copy this file with `act_once.py`, change `block_of`.

    KAFKA=127.0.0.1:9092 REGISTRY=http://127.0.0.1:8081/apis/ccompat/v7 TARGET=http://... python block_card.py
"""

from typing import Any

from act_once import Call, act_on


def block_of(decision: dict[str, Any]) -> Call:
    """Whose card, and why."""
    why = [reason["code"] for reason in decision["reasons"]]
    return "POST", "/blocks", {"customer_id": decision["customer_id"], "event_id": decision["event_id"], "why": why}


if __name__ == "__main__":
    act_on("decline", block_of, group="block-card")

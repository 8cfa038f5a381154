"""Opens a case elsewhere for every payment that people should look into: `POST /cases`.

Copy this file with `act_once.py`, change `case_of`.

    KAFKA=127.0.0.1:9092 REGISTRY=http://127.0.0.1:8081/apis/ccompat/v7 TARGET=http://... python open_case.py
"""

from typing import Any

from act_once import Call, act_on


def case_of(decision: dict[str, Any]) -> Call:
    """What people need to begin with."""
    title = f"Payment {decision['event_id']} of {decision['customer_id']} at {decision['terminal_id']}"
    names = ("event_id", "customer_id", "amount_minor", "currency", "score", "reasons", "rule_hits")
    return "POST", "/cases", {"title": title, **{name: decision[name] for name in names}}


if __name__ == "__main__":
    act_on("review", case_of, group="open-case")

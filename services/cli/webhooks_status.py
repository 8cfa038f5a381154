"""Webhooks in ``weir status``: how many systems are told, how far behind they are, and which take nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from services.mesh.errors import Fatal
from services.mesh.topology import WEBHOOKS
from services.platform.probes import health_answer
from services.webhooks.settings import FILE_NAME
from services.webhooks.subscription_file import load_subscriptions

_NUMBERS: Final = {
    "weir_webhook_lag": "lag",
    "weir_webhook_age_seconds": "age_s",
    "weir_webhook_down": "down",
    "weir_webhook_delivered_total": "delivered",
}


def webhooks_status(data_dir: Path) -> dict[str, Any]:
    """Every subscription with what its process says of it; numbers are None where nobody says any."""
    run = data_dir / "run" / f"{WEBHOOKS.name}.json"
    progress, metrics = health_answer(run, "/health/progress"), health_answer(run, "/metrics")
    answers = progress is not None and metrics is not None
    numbers = _numbers(metrics or "")
    try:
        subscriptions, error = load_subscriptions(data_dir / FILE_NAME).all, None
    except Fatal as fatal:
        subscriptions, error = (), str(fatal)
    found = [
        {
            "name": one.name,
            "actions": one.actions_in_order,
            "paused": one.paused,
            # What is decided for a paused one waits in the log; nobody counts it.
            **_of({} if one.paused else numbers.get(one.name, {})),
        }
        for one in subscriptions
    ]
    return {
        "instances": int(run.exists()),
        "ready": int(answers and bool(json.loads(progress or "{}").get("ready"))),
        "lag": int(sum(one["lag"] or 0 for one in found)) if answers else None,
        "age_s": max((one["age_s"] or 0.0 for one in found), default=0.0) if answers else None,
        "down": [one["name"] for one in found if one["down"]],
        "subscriptions": found,
        "error": error,
    }


def webhooks_lines(webhooks: Mapping[str, Any]) -> list[str]:
    """The same for people: a row of the table of stages, and what they should know beside it."""
    found = webhooks["subscriptions"]
    paused = sum(one["paused"] for one in found)
    told = f"{len(found)} subscription{'' if len(found) == 1 else 's'}" + (f", {paused} paused" if paused else "")
    lag = "-" if webhooks["lag"] is None else f"{webhooks['lag']:,}"
    age = "-" if webhooks["age_s"] is None else f"{1_000 * webhooks['age_s']:,.0f} ms"
    ready = f"{webhooks['ready']}/{webhooks['instances']}"
    lines = [f"{WEBHOOKS.name:18} {ready:>6} {lag:>9} {'':9} {age:>10} {'':9}  {told}"]
    lines += [
        f"{'':18} down: {one['name']} takes nothing, {one['lag']:,.0f} wait, the oldest for {one['age_s']:,.0f} s"
        for one in found
        if one["down"]
    ]
    if webhooks["error"]:
        lines.append(f"{'':18} {webhooks['error']}")
    return lines


def _of(numbers: Mapping[str, float]) -> dict[str, Any]:
    """One subscription's, None where nothing is known."""
    lag, delivered = numbers.get("lag"), numbers.get("delivered")
    return {
        "lag": None if lag is None else int(lag),
        "age_s": numbers.get("age_s"),
        "down": bool(numbers.get("down")),
        "delivered": int(delivered or 0) if lag is not None else None,
    }


def _numbers(metrics: str) -> dict[str, dict[str, float]]:
    """By subscription."""
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.name in _NUMBERS:
                found.setdefault(sample.labels["webhook"], {})[_NUMBERS[sample.name]] = sample.value
    return found

"""Journals of models, policies, drift alerts and what people did: folded as everybody does it, kept small. Pure."""

from __future__ import annotations

import json
from collections import OrderedDict, deque
from typing import Any, Final, cast

from services.mesh.model_registry import Registry
from services.mesh.policy_registry import PolicyRegistry
from services.mesh.records import DriftAlert, ModelRelease, PolicyRelease

ENTRIES_MAX: Final = 500  # the newest of each journal; `weir models list` and `weir policy list` have all
_FROM_MANIFEST: Final = ("rows", "frauds", "label_cut_off_ms", "feature_set", "code_version", "xgboost_version")
_FROM_PARAMETERS: Final = ("champion", "snapshot_rows", "labels_offsets")
TRAIL_MAX: Final = 5_000  # half a kilobyte each
_EVIDENCE_CHARACTERS_MAX: Final = 20_000


class Models:
    """``models.v1``: who serves, who runs beside, and every move."""

    def __init__(self) -> None:
        self._registry = Registry()
        self._entries: deque[dict[str, Any]] = deque(maxlen=ENTRIES_MAX)

    def take(self, decoded: dict[str, Any], append_time_ms: int) -> None:
        """The next record."""
        release = cast(ModelRelease, decoded)
        why_void = self._registry.apply(release)
        manifest = json.loads(release["manifest"]) if release["manifest"] else {}
        evidence = release["evidence"] or "{}"
        self._entries.append(
            {
                "model_version": release["model_version"],
                "move": release["move"],
                "actor": release["actor"],
                "why": release["why"],
                "void": why_void,
                "event_time_ms": release["event_time_ms"],
                "append_time_ms": append_time_ms,
                "canary_percent": release["canary_percent"],
                "evidence": json.loads(evidence) if len(evidence) <= _EVIDENCE_CHARACTERS_MAX else {"too long": True},
                "metrics": manifest.get("metrics", {}),
                "made_from": {name: manifest[name] for name in _FROM_MANIFEST if name in manifest}
                | {name: found for name in _FROM_PARAMETERS if (found := manifest.get("parameters", {}).get(name))},
            }
        )

    def told(self) -> dict[str, Any]:
        """For the page; the newest move first."""
        canary = self._registry.canary
        return {
            "champion": self._registry.champion,
            "before": self._registry.promoted[:-1][::-1],
            "beside": self._registry.beside,
            "canary": {"model_version": canary.model_version, "percent": canary.percent} if canary else None,
            "entries": list(self._entries)[::-1],
        }


class Policies:
    """``policies.v1``: which one decides, which is tried, and every move with its difference."""

    def __init__(self) -> None:
        self._registry = PolicyRegistry()
        self._entries: deque[dict[str, Any]] = deque(maxlen=ENTRIES_MAX)

    def take(self, decoded: dict[str, Any], append_time_ms: int) -> None:
        """The next record."""
        release = cast(PolicyRelease, decoded)
        why_void = self._registry.apply(release)
        kept = ("policy_version", "move", "author", "approver", "why", "percent", "diff")
        self._entries.append(
            {name: decoded[name] for name in kept} | {"void": why_void, "append_time_ms": append_time_ms}
        )

    def text(self, version: str) -> str | None:
        """The policy of that version as it was written; None when it is not known any more."""
        return self._registry.texts.get(version)

    def told(self) -> dict[str, Any]:
        """For the page; the newest move first."""
        rollout = self._registry.rollout
        return {
            "in_force": self._registry.in_force,
            "rollout": {"policy_version": rollout.policy_version, "percent": rollout.percent} if rollout else None,
            "beside": self._registry.beside,
            "entries": list(self._entries)[::-1],
        }


class Alerts:
    """``drift-alerts.v1``: what holds, and what was."""

    def __init__(self) -> None:
        self._open: dict[str, DriftAlert] = {}
        self._entries: deque[dict[str, Any]] = deque(maxlen=ENTRIES_MAX)

    def take(self, decoded: dict[str, Any], append_time_ms: int) -> None:
        """The next record; a repeat changes nothing."""
        alert = cast(DriftAlert, decoded)
        if alert["status"] == "raised":
            self._open[alert["alert_id"]] = alert
        else:
            self._open.pop(alert["alert_id"], None)
        self._entries.append({**alert, "append_time_ms": append_time_ms})

    @property
    def open(self) -> int:
        """How many hold."""
        return len(self._open)

    def told(self) -> dict[str, Any]:
        """For the page; harm first, then the newest."""
        held = sorted(self._open.values(), key=lambda alert: (not alert["is_harm"], -alert["window_end_ms"]))
        return {"open": held, "entries": list(self._entries)[::-1]}


class AuditTrail:
    """``audit.v1``: who did what. An entry that was sent twice has one id and counts once.

    What services tell (a case was opened, it overflowed) is far more, and must not push out what people did.
    """

    def __init__(self) -> None:
        self._people: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._services: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def take(self, decoded: dict[str, Any], append_time_ms: int) -> None:
        """The next record."""
        entries = self._services if decoded["role"] == "service" else self._people
        entries.setdefault(decoded["audit_id"], {**decoded, "append_time_ms": append_time_ms})
        while len(entries) > TRAIL_MAX:
            entries.popitem(last=False)

    def about(self, subject: str) -> list[dict[str, Any]]:
        """What was done with ``subject``, the oldest first."""
        found = [one for entries in (self._people, self._services) for one in entries.values()]
        return sorted((one for one in found if one["subject"] == subject), key=lambda one: int(one["append_time_ms"]))

    def told(self) -> list[dict[str, Any]]:
        """The newest first."""
        newest = [one for entries in (self._people, self._services) for one in list(entries.values())[-ENTRIES_MAX:]]
        return sorted(newest, key=lambda one: -int(one["append_time_ms"]))

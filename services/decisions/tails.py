"""The part of a decision that is alike for many events (action, reasons, conditions), written out once for them all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.decisions.deciding import Decided, Judgement
from services.decisions.policy import Policy
from services.decisions.verdict import Action, Verdict
from services.mesh.codec import Extension, Schema
from services.mesh.records import ShadowVerdict

FIRST = "action"  # the fields before it differ from event to event
KEPT_MAX = 8_192  # some hundred bytes each, some kilobytes where conditions are told


class Tails:
    """Writes decisions from their field ``FIRST`` on."""

    def __init__(self, decision: Schema) -> None:
        self.first = [field["name"] for field in decision.fields].index(FIRST)
        self._extension = Extension(decision, decision.fields[: self.first], decision, decision.fields)
        self._plain: dict[int, tuple[Verdict, bytes]] = {}  # by the verdict's place in memory, which it is kept at
        self._told: dict[tuple[Any, ...], bytes] = {}

    def of(self, decided: Decided, rows: int) -> tuple[list[bytes], list[Action]]:
        """Tails and actions, one a row."""
        for kept in (self._plain, self._told):
            if len(kept) > KEPT_MAX:
                kept.clear()
        tails, actions = [b""] * rows, ["approve"] * rows
        for judgement in decided.judgements:
            self._write(judgement, decided.shadows, tails, actions)
        return tails, actions  # type: ignore[return-value]  # mypy: list is invariant

    def _write(
        self, judgement: Judgement, shadows: dict[int, list[ShadowVerdict]], tails: list[bytes], actions: list[Any]
    ) -> None:
        policy, rows, judged = judgement
        swaps, asked, outcomes = judged.swaps, [], judged.outcomes()
        for own, (row, outcome) in enumerate(zip(rows.tolist(), outcomes, strict=True)):
            if not outcome.plain or own in swaps or row in shadows:
                asked.append((own, row))
                continue
            verdict = outcome.verdict
            known = self._plain.get(id(verdict))
            if known is None or known[0] is not verdict:
                known = self._plain[id(verdict)] = (verdict, self._written(policy, verdict, [], []))
            tails[row] = known[1]
        if not asked:
            return
        keys = policy.trace.keys(judged, [own for own, _ in asked])
        for (own, row), key in zip(asked, keys, strict=True):
            verdict = swaps.get(own, outcomes[own].verdict)
            actions[row] = verdict.action
            beside = shadows.get(row, [])
            if outcomes[own].plain and own not in swaps:
                key = b""  # simply approved, however a policy beside sees it
            name = (policy.version, verdict, key, *map(str, beside))
            tail = self._told.get(name)
            if tail is None:
                conditions = policy.trace.values(key) if key else []
                tail = self._told[name] = self._written(policy, verdict, beside, conditions)
            tails[row] = tail

    def _written(self, policy: Policy, verdict: Verdict, beside: Sequence[Any], conditions: Sequence[Any]) -> bytes:
        own = {
            "action": verdict.action,
            "reasons": [{"code": code, "text": text} for code, text in verdict.reasons],
            "rule_hits": verdict.rule_hits,
            "policy_version": policy.version,
            "propensity": verdict.propensity,
            "shadow_verdicts": beside,
            "conditions": conditions,
        }
        return self._extension.extend_after(b"", b"", own)

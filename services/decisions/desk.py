"""The policies that act: follows ``policies.v1``; a release that does not load is refused and nothing changes."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from services.decisions.deciding import Panel
from services.decisions.library import Library
from services.decisions.policy import Policy
from services.mesh.codec import Codec
from services.mesh.errors import Fatal, Poison
from services.mesh.feature_set import FeatureSetPin
from services.mesh.policy_registry import PolicyRegistry
from services.mesh.ports import InRecord, Journal
from services.mesh.records import PolicyRelease
from services.mesh.telemetry import StageTelemetry


class PolicyDesk:
    """What decisions asks for policies."""

    def __init__(self, journal: Journal, features: FeatureSetPin, telemetry: StageTelemetry) -> None:
        self._journal = journal
        self._telemetry = telemetry
        self._codec = Codec("policy_release.v1.avsc")
        self.library = Library(features.names)
        self._registry = PolicyRegistry(self.library.inspect)
        self._panel: Panel | None = None

    @property
    def panel(self) -> Panel:
        """The policies at work."""
        assert self._panel is not None, "open() has not returned"
        return self._panel

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self.panel.policy

    def open(self) -> None:
        """Read the journal to its end; Fatal when it holds no policy that loads."""
        self._take(self._journal.read_to_end())
        if self._panel is None:
            raise Fatal("policies.v1 holds no policy: weir policy publish schemas/payments/policy.yaml --why 'first'")

    def turn(self) -> None:
        """Once between two batches."""
        records = self._journal.poll()
        if records:
            self._take(records)

    def _take(self, records: Sequence[InRecord]) -> None:
        for record in records:
            try:
                release: PolicyRelease = self._codec.decode(record.value)  # type: ignore[assignment]
                why_void = self._registry.apply(release)
            except Poison as poison:
                why_void = str(poison)
            if why_void:
                logging.error("policy move at policies.v1@%d is void: %s", record.offset, why_void)
                self._telemetry.metrics.add("weir_policies_refused", 1)
                continue
            logging.info(
                "policy %s: %s (%s: %s)", release["policy_version"], release["move"], release["author"], release["why"]
            )
        self._seat()

    def _seat(self) -> None:
        """Let those act who should."""
        registry, known = self._registry, self.library.get
        self.library.keep(registry.texts.keys())
        policy, rollout = known(registry.in_force), registry.rollout
        if policy is None:
            return
        if self._panel is None or self._panel.policy is not policy:
            self._telemetry.metrics.add("weir_policy_swaps", 1)
        tried = known(rollout.policy_version) if rollout else None
        beside = [found for version in registry.beside if (found := known(version))]
        self._panel = Panel(policy, tried, rollout.percent if rollout else 0, tuple(beside))
        self._telemetry.in_force("policy", policy.version)
        others = {
            "policy_rollout": f"{tried.version} at {self._panel.percent}%" if tried else "",
            "policies_beside": ", ".join(each.version for each in beside),
        }
        for what, versions in others.items():
            if versions or what in self._telemetry.health.versions:
                self._telemetry.in_force(what, versions or "none")

"""The policy in force: follows ``policies.v1``; a release that does not load is refused and the one before goes on."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from services.decisions.mistakes import PolicyError
from services.decisions.policy import Policy, load_policy
from services.mesh.codec import Codec
from services.mesh.errors import Fatal, Poison
from services.mesh.feature_set import FeatureSetPin
from services.mesh.ports import InRecord, Journal
from services.mesh.records import PolicyRelease
from services.mesh.telemetry import StageTelemetry


class PolicyDesk:
    """What decisions asks for a policy."""

    def __init__(self, journal: Journal, features: FeatureSetPin, telemetry: StageTelemetry) -> None:
        self._journal = journal
        self._features = features
        self._telemetry = telemetry
        self._codec = Codec("policy_release.v1.avsc")
        self._policy: Policy | None = None

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        assert self._policy is not None, "open() has not returned"
        return self._policy

    def open(self) -> None:
        """Read the journal to its end; Fatal when it holds no policy that loads."""
        self._take(self._journal.read_to_end())
        if self._policy is None:
            raise Fatal("policies.v1 holds no policy: weir policy publish schemas/payments/policy.yaml --why 'first'")

    def turn(self) -> None:
        """Once between two batches."""
        self._take(self._journal.poll())

    def _take(self, records: Sequence[InRecord]) -> None:
        for record in records:
            try:
                release: PolicyRelease = self._codec.decode(record.value)  # type: ignore[assignment]
                policy = load_policy(release["policy"], f"policies.v1@{record.offset}", self._features.names)
            except (Poison, PolicyError) as error:
                logging.error("policy at policies.v1@%d refused: %s", record.offset, error)
                self._telemetry.metrics.add("weir_policies_refused", 1)
                continue
            self._policy = policy
            self._telemetry.metrics.add("weir_policy_swaps", 1)
            self._telemetry.in_force("policy", policy.version)
            logging.info("policy %s decides from now on (%s: %s)", policy.version, release["author"], release["why"])

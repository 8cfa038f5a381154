"""The policies that were released, loaded once each. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from services.decisions.mistakes import PolicyError
from services.decisions.policy import Policy, digits_of, load_policy
from services.mesh.policy_registry import Inspection


class Library:
    """Policies by version, as they were loaded."""

    def __init__(self, feature_names: Sequence[str]) -> None:
        self._feature_names = feature_names
        self._policies: dict[str, Policy] = {}

    def inspect(self, version: str, text: str) -> Inspection:
        """Load a released policy; see ``PolicyRegistry``."""
        known = self._policies.get(version)
        if known is not None and not version.endswith(digits_of(text)):
            return Inspection(flaw=f"its text is not that of {version}")
        if known is None:
            try:
                known = load_policy(text, "policies.v1", self._feature_names)
            except PolicyError as error:
                return Inspection(flaw=str(error))
            if known.version != version:
                return Inspection(flaw=f"its text is {known.version}, not {version}")
            self._policies[version] = known
        return Inspection(two_people=known.declared.two_people)

    def keep(self, versions: Collection[str]) -> None:
        """Forget all others, so that years of policies fit a process."""
        self._policies = {version: policy for version, policy in self._policies.items() if version in versions}

    def get(self, version: str) -> Policy | None:
        """A policy that was released and loads."""
        return self._policies.get(version)

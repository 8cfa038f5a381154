"""Which policies decide, are tried on a share of the customers, and run beside, folded from ``policies.v1``. Pure.

The topic is the registry: append-only, one partition, so its order is everybody's order. A move names the version that
it expects in force (compare-and-set); one that finds another is void. Decisions, the command line and whoever else
wants to know fold the same records with this one function, so they agree on every move without asking each other.

    in force   decides for everybody who is not in the rollout; the versions before it are kept for a rollback
    rollout    decides for a share of the customers
    beside     shadow policies: judge every event and decide none
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from services.mesh.records import PolicyRelease

# Each policy beside costs about as much as the one in force.
BESIDE_MAX = 3
# A policy is some kilobytes; every move made by `weir policy` brings its text, so going back further works too.
TEXTS_MAX = 100


class Inspection(NamedTuple):
    """What somebody who can read policies says about one: why it is refused (empty: it is not), and whom it asks."""

    flaw: str = ""
    two_people: bool = False  # whoever replaces it needs somebody else's approval


@dataclass(frozen=True, slots=True)
class Rollout:
    """A version that decides for ``percent`` of the customers, 1 to 99."""

    policy_version: str
    percent: int


def trusted(policy_version: str, text: str) -> Inspection:
    """For readers who cannot read policies: `weir policy` publishes none that does not load."""
    return Inspection()


@dataclass(slots=True)
class PolicyRegistry:
    """The journal so far. ``inspect`` is given the version and text of a release that brings its text."""

    inspect: Callable[[str, str], Inspection] = trusted
    texts: dict[str, str] = field(default_factory=dict)  # by version, least recently named first
    served: list[str] = field(default_factory=list)  # who decided for all, oldest first
    rollout: Rollout | None = None
    beside: list[str] = field(default_factory=list)  # oldest first, at most BESIDE_MAX
    _two_people: set[str] = field(default_factory=set)

    @property
    def in_force(self) -> str:
        """The version that decides for all who are not in a rollout; empty before the first."""
        return self.served[-1] if self.served else ""

    @property
    def before(self) -> str:
        """The version that a rollback returns to: the one in force while a rollout is on, else its predecessor."""
        if self.rollout:
            return self.in_force
        return self.served[-2] if len(self.served) > 1 else ""

    def apply(self, release: PolicyRelease) -> str:
        """Take one release into account, in the order of the journal; why it is void, empty when it holds."""
        version, move = release["policy_version"], release["move"]
        if move == "note":
            return ""
        why_void = self._flaw(release)
        if why_void:
            return why_void
        text = self.texts.pop(version, "")
        self.texts[version] = release["policy"] or text
        if move == "publish" and release["percent"] < 100:
            self._leave(version)
            self.rollout = Rollout(version, release["percent"])
        elif move == "publish":
            self._leave(version)
            self.rollout = None  # it was tried against another
            self.served = [*(v for v in self.served if v != version), version]
        elif move == "rollback":
            self._leave(version)
            self.rollout = None
            earlier = self.served[: self.served.index(version)] if version in self.served else self.served
            self.served = [*earlier, version]
        elif move == "shadow":
            self._leave(version)
            self.beside = [*self.beside, version][-BESIDE_MAX:]
        else:
            self._leave(version)
        self._forget()
        return ""

    def _flaw(self, release: PolicyRelease) -> str:
        version, move = release["policy_version"], release["move"]
        expects, text = release["expects"], release["policy"]
        if expects is not None and expects != self.in_force:
            return f"expects {expects or 'no policy'} in force, {self.in_force or 'none'} is"
        if not text and version not in self.texts:
            return f"{version} is not known here, and the move brings no text"
        if move == "publish" and not 1 <= release["percent"] <= 100:
            return f"percent={release['percent']}: must be 1 to 100"
        if move == "publish" and release["percent"] < 100 and not self.in_force:
            return f"percent={release['percent']}: no policy is in force for the others; publish it at 100"
        if move in ("shadow", "retire") and version == self.in_force:
            return f"{version} is in force; publish another or roll back"
        approver, author = release["approver"], release["author"]
        if move == "publish" and self.in_force in self._two_people and approver in (None, "", author):
            return f"{self.in_force} asks for two people: author={author}, approver={approver or 'nobody'}"
        if text:
            inspection = self.inspect(version, text)
            if inspection.flaw:
                return inspection.flaw
            if inspection.two_people:
                self._two_people.add(version)
        return ""

    def _leave(self, version: str) -> None:
        """Take ``version`` out of what runs beside the one in force."""
        self.beside = [v for v in self.beside if v != version]
        if self.rollout and self.rollout.policy_version == version:
            self.rollout = None

    def _forget(self) -> None:
        """Drop the texts that were named longest ago, never one that runs."""
        running = {self.in_force, *self.beside, *([self.rollout.policy_version] if self.rollout else [])}
        for version in [v for v in self.texts if v not in running][: max(0, len(self.texts) - TEXTS_MAX)]:
            del self.texts[version]
            self._two_people.discard(version)
        self.served = [v for v in self.served if v in self.texts]

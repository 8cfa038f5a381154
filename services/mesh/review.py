"""Cases that people look into: what one is, where it stands, and who may do what with it. Pure.

A decision with the action ``review`` opens a case. Cases are worked in the order of their expected loss: an analyst
claims one, which is his until the claim expires, and tells a verdict with a reason. Above a value two people have to
agree (four eyes); where they do not, a supervisor decides. A case that is overdue goes to supervisors, too.

A case stands on one of five shelves:

    open         an analyst may claim it
    escalated    a supervisor may: it is overdue, or two people disagree
    overflowed   people have no room for it, its default action holds; a supervisor may still take it
    judged       its verdict is on its way to become a label
    closed       somebody, here or elsewhere, has said what it was; or nobody ever will

What a case *is* follows from ``reviews.v1`` alone (``Case``). Beside it the queue keeps what may be lost with it: who
holds it, and a verdict that is being sent (``Filed``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

from services.mesh.audit import one_line
from services.mesh.errors import WeirError
from services.mesh.identity import identity_of
from services.mesh.records import Action, Label, ReviewOpened, ReviewResolution

Role = Literal["analyst", "supervisor"]
Shelf = Literal["open", "escalated", "overflowed", "judged", "closed"]
SHELVES: Final[tuple[Shelf, ...]] = ("open", "escalated", "overflowed", "judged", "closed")

RefusalCode = Literal[
    "unknown_case",
    "queue_empty",
    "closed",
    "judged",
    "held_by_other",
    "not_held",
    "needs_supervisor",
    "own_opinion",
    "reason_missing",
    "name_invalid",
    "too_many_held",
    "busy",
]

# An analyst looks at an ordinary alert for a few minutes, at a hard one for a quarter of an hour; the console renews.
CLAIM_MS: Final = 15 * 60_000
# Nobody works on more at once; who takes and takes would keep cases from the others for a quarter of an hour.
CLAIMS_MAX: Final = 10
WHY_CHARACTERS_MAX: Final = 2_000
NAME_CHARACTERS_MAX: Final = 128


class Refused(WeirError):
    """What somebody asked for is not theirs to do now; ``code`` says why to machines."""

    def __init__(self, code: RefusalCode, message: str) -> None:
        super().__init__(message)
        self.code: RefusalCode = code


class Person(NamedTuple):
    """Who asks."""

    name: str
    role: Role = "analyst"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """One of the verdicts that a case with four eyes needs."""

    analyst: str
    verdict: Label
    why: str
    time_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Who works on a case, since when and for how long."""

    analyst: str
    since_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict that is being sent: kept before anything leaves, so that a repeat sends the same bytes."""

    analyst: str
    role: Role
    verdict: Label
    why: str
    time_ms: int
    observed_time_ms: int  # in the time of events, as every outcome tells it
    is_final: bool  # False: an opinion, another one is needed
    is_sent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What ``reviews.v1`` says about a case."""

    case_id: str
    event_id: str
    customer_id: str
    opened: ReviewOpened
    opinions: tuple[Opinion, ...] = ()
    is_overdue: bool = False
    default_action: Action | None = None  # set once it has overflowed
    resolution: ReviewResolution | None = None
    verdict: Label | None = None
    outcome_id: str | None = None
    closed_time_ms: int = 0

    @property
    def is_disputed(self) -> bool:
        """Whether two people judged differently."""
        return len({opinion.verdict for opinion in self.opinions}) > 1

    @property
    def needs_supervisor(self) -> bool:
        """Whether it is beyond an analyst."""
        return self.is_overdue or self.is_disputed or self.default_action is not None

    @property
    def order(self) -> tuple[int, str]:
        """Sorts cases as they are worked: the highest expected loss first, ties by id."""
        return (-self.opened["expected_loss_minor"], self.case_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filed:
    """A case as the queue keeps it. ``version`` counts changes; who changes it says which one he saw."""

    case: Case
    claim: Claim | None = None
    judgement: Judgement | None = None
    version: int = 0

    @property
    def shelf(self) -> Shelf:
        """Where it stands."""
        case = self.case
        if case.resolution is not None:
            return "closed"
        if self.judgement is not None and self.judgement.is_sent:
            return "judged"
        if case.default_action is not None:
            return "overflowed"
        return "escalated" if case.needs_supervisor else "open"

    def holder(self, now_ms: int) -> str | None:
        """Whose it is now; None when nobody's claim holds."""
        return self.claim.analyst if self.claim is not None and now_ms < self.claim.until_ms else None


def case_id_of(customer_id: str, event_id: str) -> str:
    """The case of an event: 64 bits of its identity. Two of a million open cases share one with p below 10^-7."""
    return identity_of(customer_id, event_id)[:8].hex()


def refusal(filed: Filed, who: Person, now_ms: int) -> Refused | None:
    """Why ``who`` may not claim the case now; None: may. Whoever holds it may always renew."""
    case, shelf = filed.case, filed.shelf
    if shelf == "closed":
        return Refused("closed", f"case {case.case_id} is closed: {ending_of(case)}")
    holder = filed.holder(now_ms)
    if holder == who.name:
        return None
    if holder is not None:
        assert filed.claim is not None
        left_s = (filed.claim.until_ms - now_ms) // 1_000
        return Refused("held_by_other", f"case {case.case_id} is {holder}'s for another {left_s} s; take another one")
    if shelf == "judged" and who.role != "supervisor":
        return Refused("judged", f"case {case.case_id} has its verdict, which is on its way; take another one")
    if case.needs_supervisor and who.role != "supervisor":
        return Refused("needs_supervisor", f"case {case.case_id} is {shelf}: it needs a supervisor; take another one")
    if any(opinion.analyst == who.name for opinion in case.opinions):
        return Refused("own_opinion", f"case {case.case_id}: {who.name} has judged it; somebody else has to")
    return None


def claimed(filed: Filed, who: Person, now_ms: int, claim_ms: int = CLAIM_MS) -> Filed:
    """The case, now ``who``'s; a claim that holds is renewed. Raises Refused."""
    refused = refusal(filed, who, now_ms)
    if refused is not None:
        raise refused
    renews = filed.claim is not None and filed.holder(now_ms) == who.name
    since_ms = filed.claim.since_ms if renews and filed.claim else now_ms
    return replace(filed, claim=Claim(analyst=who.name, since_ms=since_ms, until_ms=now_ms + claim_ms))


def released(filed: Filed, who: Person, now_ms: int) -> Filed:
    """The case, nobody's; a supervisor may take it from anybody. Raises Refused."""
    holder = filed.holder(now_ms)
    if holder is None or (holder != who.name and who.role != "supervisor"):
        raise _not_held(filed, who, now_ms)
    return replace(filed, claim=None)


def judged(filed: Filed, who: Person, verdict: Label, why: str, now_ms: int, clock_ms: int = 0) -> Filed:
    """The case with the verdict that is now to be sent. Raises Refused.

    ``clock_ms``: newest event time of the mesh. Whoever repeats a verdict whose sending was cut short gets the same one
    again, byte for byte.
    """
    case, pending = filed.case, filed.judgement
    if case.resolution is not None:
        raise Refused("closed", f"case {case.case_id} is closed: {ending_of(case)}")
    if filed.holder(now_ms) != who.name:
        raise _not_held(filed, who, now_ms)
    if pending is not None and pending.is_sent and who.role != "supervisor":
        raise Refused("judged", f"case {case.case_id} has its verdict, which is on its way; take another one")
    why = one_line(why)
    if not why:
        raise Refused("reason_missing", f"case {case.case_id}: a verdict needs a reason; say what you saw")
    if case.is_disputed and who.role != "supervisor":
        raise Refused("needs_supervisor", f"case {case.case_id}: two people disagree; a supervisor has to decide")
    if any(opinion.analyst == who.name for opinion in case.opinions):
        raise Refused("own_opinion", f"case {case.case_id}: {who.name} has judged it; somebody else has to")
    if pending is not None and not pending.is_sent and (pending.analyst, pending.verdict) == (who.name, verdict):
        return filed
    judgement = Judgement(
        analyst=who.name,
        role=who.role,
        verdict=verdict,
        why=why[:WHY_CHARACTERS_MAX],
        time_ms=now_ms,
        observed_time_ms=observed_time_ms(case.opened, now_ms, clock_ms),
        is_final=is_final(case, verdict),
    )
    return replace(filed, judgement=judgement)


def is_final(case: Case, verdict: Label) -> bool:
    """Whether ``verdict`` is the last word: one is enough, two agree, or a supervisor ends a dispute."""
    if case.opened["verdicts_needed"] <= 1 or case.is_disputed:
        return True
    return any(opinion.verdict == verdict for opinion in case.opinions)


def sent(filed: Filed, judgement: Judgement) -> Filed:
    """The case after its ``judgement`` has reached the log: judged, or one opinion richer, and no longer its analyst's.

    What somebody else did with it meanwhile, because the claim had expired, stays.
    """
    is_ours = filed.claim is not None and filed.claim.analyst == judgement.analyst
    filed = replace(filed, claim=None if is_ours else filed.claim)
    if filed.case.resolution is not None:
        return replace(filed, judgement=None)
    if judgement.is_final:
        return replace(filed, judgement=replace(judgement, is_sent=True))
    opinion = Opinion(
        analyst=judgement.analyst, verdict=judgement.verdict, why=judgement.why, time_ms=judgement.time_ms
    )
    pending = filed.judgement
    is_told = pending is None or pending.analyst == judgement.analyst
    return replace(filed, case=with_opinions(filed.case, [opinion]), judgement=None if is_told else pending)


def with_opinions(case: Case, opinions: Iterable[Opinion]) -> Case:
    """``case`` with what it lacks of ``opinions``: one an analyst, in the order of their times."""
    found = {opinion.analyst: opinion for opinion in (*opinions, *case.opinions)}
    return replace(case, opinions=tuple(sorted(found.values(), key=lambda one: (one.time_ms, one.analyst))))


def refiled(filed: Filed | None, case: Case) -> Filed:
    """What the queue keeps once the log says ``case``: claims and verdicts on their way stay, opinions are joined."""
    if filed is None:
        return Filed(case=case)
    case = with_opinions(case, filed.case.opinions)
    if case.resolution is not None:
        return Filed(case=case, version=filed.version)
    return replace(filed, case=case)


def observed_time_ms(opened: ReviewOpened, now_ms: int, clock_ms: int) -> int:
    """When an analyst saw it, in the time of events.

    As long after the event as the case is open by the wall clock, and not before the newest event of the mesh; never in
    the future. In a live mesh that is now; in a replay of last year it is last year, or every other outcome were late.
    """
    elapsed_ms = max(0, now_ms - opened["opened_time_ms"])
    return max(1, min(now_ms, max(opened["event_time_ms"] + elapsed_ms, clock_ms)))


def ending_of(case: Case) -> str:
    """How it ended, for people."""
    return f"{case.resolution}{f', {case.verdict}' if case.verdict else ''}"


def surplus(cases: Collection[Case], room: int, spared: Collection[str] = ()) -> list[Case]:
    """The least costly of ``cases``, as many as are beyond ``room``, least costly first; ids in ``spared`` stay."""
    beyond = len(cases) - room
    if beyond <= 0:
        return []
    loose = [case for case in cases if case.case_id not in spared]
    return sorted(loose, key=lambda case: case.order, reverse=True)[:beyond]


def _not_held(filed: Filed, who: Person, now_ms: int) -> Refused:
    case_id, holder = filed.case.case_id, filed.holder(now_ms)
    whose = f"it is {holder}'s" if holder else "nobody holds it"
    return Refused("not_held", f"case {case_id} is not {who.name}'s: {whose}; claim it first (claims expire)")

"""An independent look at what people are to look into: every decision with the action ``review`` has exactly one case.

Like ``scan.py`` it trusts no counter: it reads both topics whole, read committed, and compares.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from services.mesh.codec import schema
from services.mesh.errors import Poison
from services.mesh.excerpt import Excerpt
from services.mesh.feature_set import pinned_feature_set
from services.mesh.review import case_id_of
from services.mesh.review_records import review_of
from services.mesh.topics import DECISIONS, REVIEWS
from services.platform.scan import Read, committed_records


@dataclass(slots=True, kw_only=True)
class CaseLedger:
    """What the log holds of reviews."""

    reviews: int = 0  # decisions with the action review
    cases: int = 0
    missing: int = 0  # such decisions without a case
    duplicates: int = 0  # cases that were opened, or closed, more than once
    strangers: int = 0  # cases of no such decision
    waiting: int = 0  # such decisions that the review service has not come to
    closed: int = 0
    unreadable: int = 0

    @property
    def is_good(self) -> bool:
        """Whether no promise was broken."""
        return not (self.missing or self.duplicates or self.strangers)


def settle_cases(read: Read, taken: Mapping[int, int]) -> CaseLedger:
    """The account. ``taken``: by partition, the offset of ``decisions.v1`` that the review service has committed."""
    ledger = CaseLedger()
    opened: Counter[str] = Counter()
    closed: Counter[str] = Counter()
    for message in read(REVIEWS, None):
        try:
            move = review_of(message.value())
        except Poison:
            ledger.unreadable += 1
            continue
        opened[move["case_id"]] += move["move"] == "opened"
        closed[move["case_id"]] += move["move"] == "closed"
    sizes = {"vector": 4 * len(pinned_feature_set().names)}
    glance = Excerpt(schema(DECISIONS.schemas[0]), ("action", "customer_id", "event_id"), sizes=sizes)
    met: set[str] = set()
    for message in read(DECISIONS, None):
        try:
            action, customer_id, event_id = glance.of(message.value())
        except Poison:
            ledger.unreadable += 1
            continue
        if action != "review":
            continue
        ledger.reviews += 1
        case_id = case_id_of(customer_id, event_id)
        if opened[case_id]:
            met.add(case_id)
        elif message.offset() >= taken.get(message.partition(), 0):
            ledger.waiting += 1
        else:
            ledger.missing += 1
    ledger.cases = sum(1 for count in opened.values() if count)
    ledger.closed = sum(1 for count in closed.values() if count)
    ledger.duplicates = sum(max(0, count - 1) for counts in (opened, closed) for count in counts.values())
    ledger.strangers = sum(1 for case_id, count in opened.items() if count and case_id not in met)
    return ledger


def account_of_cases(bootstrap: str, taken: Mapping[int, int]) -> CaseLedger:
    """The account of a running mesh; take ``taken`` before the call. Raises Transient."""
    return settle_cases(lambda topic, starts: committed_records(bootstrap, topic, starts, None), taken)

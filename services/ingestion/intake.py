"""The two doors of the mesh, events and outcomes, as data: the checks behind both are the same. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from services.ingestion.admission import Candidate, candidate_of_outcome
from services.mesh.event_fields import valid_event
from services.mesh.outcome_fields import valid_outcome
from services.mesh.profile import WINDOW_MS, AmountKey, FieldKey
from services.mesh.records import EventRaw, OutcomeRaw
from services.mesh.topics import Topic
from services.mesh.topology import INGESTION, OUTCOME_INTAKE, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """What tells one door from the other."""

    stage: Stage
    schema_file: str  # of an accepted record
    fields: frozenset[str]  # that a sender may give
    own_id: str  # the field that a sender without ids leaves out
    valid: Callable[[Mapping[str, Any]], Any]  # fields -> raw record in normal form; raises Poison
    candidate: Callable[[Any, bytes], Candidate]  # of a raw record and its customer
    store: str  # namespace of what is kept in the store
    counted: Callable[[Any], tuple[FieldKey, AmountKey]] | None = (
        None  # what a profile counts of an accepted record; None: nothing
    )

    @property
    def raw(self) -> Topic:
        """What comes in."""
        return self.stage.consumes

    @property
    def accepted(self) -> Topic:
        """Where it goes when it passes."""
        return self.stage.produces[0]


def _keys(event: EventRaw) -> tuple[FieldKey, AmountKey]:
    window, channel = event["event_time_ms"] // WINDOW_MS, event["channel"]
    return (
        (window, channel, event["country"], event["currency"], event["device_id"] is None),
        (window, channel, event["amount_minor"].bit_length()),
    )


EVENT_INTAKE = Intake(
    stage=INGESTION,
    schema_file="payments/event.v1.avsc",
    fields=frozenset(EventRaw.__annotations__),
    own_id="event_id",
    valid=valid_event,
    candidate=Candidate.of,
    store="ingestion",
    counted=_keys,
)
OUTCOMES_INTAKE = Intake(
    stage=OUTCOME_INTAKE,
    schema_file="payments/outcome.v1.avsc",
    fields=frozenset(OutcomeRaw.__annotations__),
    own_id="outcome_id",
    valid=valid_outcome,
    candidate=candidate_of_outcome,
    store="ingestion-outcomes",
)

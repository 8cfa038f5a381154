"""What requests and answers look like, for the documentation: bodies are read by ``bodies``, not by these. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field

from services.mesh.event_fields import AMOUNT_MINOR_MAX, EVENT_TIME_MS_MAX, TEXT_CHARS_MAX
from services.mesh.records import Action, FeatureStatus, Label, OutcomeSource

Id = Annotated[str, Field(min_length=1, max_length=TEXT_CHARS_MAX)]

EVENT_EXAMPLE: Final[dict[str, Any]] = {
    "event_id": "e-1", "event_time_ms": 1763719200000, "customer_id": "c-42", "terminal_id": "t-7",
    "amount_minor": 5031, "currency": "EUR", "channel": "web", "country": "FR", "device_id": "d-9",
}  # fmt: skip
OUTCOME_EXAMPLE: Final[dict[str, Any]] = {
    "outcome_id": "o-1", "event_id": "e-1", "customer_id": "c-42", "label": "fraud", "source": "chargeback",
    "observed_time_ms": 1764324000000,
}  # fmt: skip


class Event(BaseModel):
    """A payment. Nothing is converted: "12" is not 12, "eur" is not "EUR"; a field of another name is refused."""

    model_config = {"extra": "forbid", "json_schema_extra": {"example": EVENT_EXAMPLE}}
    event_id: Id = Field("", description="With customer_id its identity; left out, it is derived from the rest.")
    event_time_ms: int = Field(ge=1, le=EVENT_TIME_MS_MAX, description="When it happened, Unix milliseconds UTC.")
    customer_id: Id = Field(description="Who pays.")
    terminal_id: Id = Field(description="Where.")
    amount_minor: int = Field(ge=0, le=AMOUNT_MINOR_MAX, description="In minor units of the currency (cents for EUR).")
    currency: str = Field("EUR", description="ISO 4217 code.")
    channel: Id | None = Field(None, description="How, for example 'pos' or 'web'.")
    country: str | None = Field(None, pattern="^[A-Z]{2}$", description="ISO 3166 alpha-2, of the terminal.")
    device_id: Id | None = Field(None, description="The customer's device.")


class Outcome(BaseModel):
    """What a payment turned out to be; it may come months later, and before the payment."""

    model_config = {"extra": "forbid", "json_schema_extra": {"example": OUTCOME_EXAMPLE}}
    outcome_id: Id = Field("", description="Its identity; left out, it is derived from the rest.")
    event_id: Id = Field(description="The event that it is about.")
    customer_id: Id = Field(description="That event's customer.")
    label: Label
    source: OutcomeSource = Field(description="Who observed it.")
    observed_time_ms: int = Field(ge=1, le=EVENT_TIME_MS_MAX, description="When, Unix milliseconds UTC.")
    revises: Id | None = Field(None, description="The outcome_id that this one takes back.")


class Accepted(BaseModel):
    """Durable: acknowledged by the broker. It becomes exactly one decision or exactly one dead letter."""

    event_id: str
    customer_id: str
    trace_id: str = Field(description="Of every hop's trace; a hash of both ids.")
    decision_url: str = Field(description="Where its decision will be found.")


class AcceptedOutcome(BaseModel):
    """Durable: acknowledged by the broker. It becomes a label, waits for its decision, or ends as an orphan."""

    outcome_id: str
    event_id: str
    customer_id: str
    trace_id: str


class ProblemDocument(BaseModel):
    """RFC 9457: what is wrong, where, and what helps."""

    type: str = Field(description="A path of this server that documents the kind.")
    title: str
    status: int
    detail: str = Field(description="Value, place and remedy, in one line.")
    code: str = Field("", description="Ingestion's reject code, where it would refuse the record too.")
    field: str = Field("", description="The field at fault.")


class Item(BaseModel):
    """What became of one event of a batch."""

    status: int = Field(description="202, or the status that it would have had alone.")
    accepted: Accepted | None = None
    problem: ProblemDocument | None = None


class Batch(BaseModel):
    """One item an event, in their order."""

    accepted: int
    refused: int
    items: list[Item]


class Reason(BaseModel):
    """Why: a code for machines and a text for people."""

    code: str
    text: str


class Decision(BaseModel):
    """What ``decisions.v1`` holds about the event."""

    decided: Literal[True] = True
    event_id: str
    customer_id: str
    trace_id: str
    action: Action = Field(description="What to do with the payment.")
    score: float = Field(ge=0, le=1, description="Calibrated probability of fraud.")
    reasons: list[Reason] = Field(description="Most important first.")
    rule_hits: list[str]
    model_version: str
    policy_version: str
    feature_set: str
    feature_status: FeatureStatus
    propensity: float = Field(description="1 unless chance was involved.")
    source_partition: int
    source_offset: int = Field(description="With source_partition it restores one customer's order.")
    raw_append_time_ms: int


class Undecided(BaseModel):
    """The event is durable and has no decision yet. ``action`` is advice for the meantime, not a decision."""

    decided: Literal[False] = False
    why: Literal["deadline", "stopping", "pending"] = Field(
        description="deadline: it has passed. stopping: this gateway stops. pending: it is on its way."
    )
    action: Action = Field(description="What to do until the decision is there; the operator sets it.")
    event_id: str
    customer_id: str
    trace_id: str
    decision_url: str = Field(description="Where the decision will be found.")

"""Every record that crosses a topic, as Python sees it after decoding.

TypedDicts, not dataclasses: fastavro already hands us dicts, and building an object a record would cost 0.9 us a hop.
The contract is the ``.avsc``; ``tests/contracts`` proves these equal to it, field by field.
"""

from __future__ import annotations

from typing import Literal, TypedDict

Label = Literal["fraud", "genuine"]
OutcomeSource = Literal["analyst", "chargeback", "early_warning", "customer"]
FeatureStatus = Literal["ok", "saturated", "stale", "fallback"]
ExplanationStatus = Literal["none", "partial", "full"]
Action = Literal["approve", "challenge", "review", "decline"]
ModelMove = Literal["promote", "challenge", "canary", "retire", "rollback", "note"]
LabelSource = Literal["analyst", "chargeback", "early_warning", "customer", "matured"]
OrphanReason = Literal["no_decision", "decision_forgotten", "unknown_revision", "other"]
PolicyMove = Literal["publish", "shadow", "rollback", "retire", "note"]
Held = Literal["yes", "no", "unknown"]
ReviewMove = Literal["opened", "opinion", "escalated", "overflowed", "closed", "other"]
ReviewEscalation = Literal["overdue", "disagreement", "other"]
ReviewResolution = Literal["verdict", "elsewhere", "matured", "expired", "other"]
AlertStatus = Literal["raised", "cleared"]
AlertKind = Literal[
    "feature_shift",
    "score_shift",
    "decision_shift",
    "data_quality",
    "calibration",
    "precision",
    "estimate_gap",
    "absence",
    "other",
]


class EventRaw(TypedDict):
    """schemas/payments/event_raw.v1.avsc: what a producer sends."""

    event_id: str
    customer_id: str
    terminal_id: str
    event_time_ms: int
    amount_minor: int
    currency: str
    channel: str | None
    country: str | None
    device_id: str | None


class OutcomeRaw(TypedDict):
    """schemas/payments/outcome_raw.v1.avsc: what an event turned out to be, as a producer sends it."""

    outcome_id: str
    event_id: str
    customer_id: str
    label: Label
    source: OutcomeSource
    observed_time_ms: int
    revises: str | None


class Outcome(OutcomeRaw):
    """schemas/payments/outcome.v1.avsc: an accepted outcome."""

    source_partition: int
    source_offset: int
    raw_append_time_ms: int


class OutcomeOrphan(Outcome):
    """schemas/outcome_orphan.v1.avsc: an outcome that belongs to no decision."""

    orphan_reason: OrphanReason
    orphaned_time_ms: int


class Event(EventRaw):
    """schemas/payments/event.v1.avsc: an accepted event."""

    source_partition: int
    source_offset: int
    raw_append_time_ms: int


class EventUpdate(Event):
    """schemas/terminal_update.v1.avsc, first branch: an event with its customer's features."""

    event_append_time_ms: int
    customer_status: FeatureStatus
    customer_vector: bytes


class LabelUpdate(TypedDict):
    """schemas/terminal_update.v1.avsc, second branch: a label that changes the terminal's features."""

    event_id: str
    customer_id: str
    terminal_id: str
    event_time_ms: int
    label: Label
    label_version: int
    observed_time_ms: int


class TerminalUpdate(TypedDict):
    """schemas/terminal_update.v1.avsc."""

    update: EventUpdate | LabelUpdate


class Features(Event):
    """schemas/features.v1.avsc: an event with its whole vector."""

    event_append_time_ms: int
    update_append_time_ms: int
    feature_set: str
    feature_status: FeatureStatus
    vector: bytes


class ChallengerScore(TypedDict):
    """What a model that does not serve would have said."""

    model_version: str
    score: float


class Contribution(TypedDict):
    """One feature's part in a score."""

    feature: str
    value: float
    contribution: float


class Score(Features):
    """schemas/score.v1.avsc: an event with its score."""

    features_append_time_ms: int
    score: float
    model_version: str
    split_bucket: int
    challenger_scores: list[ChallengerScore]
    explanation_status: ExplanationStatus
    contributions: list[Contribution]


class Reason(TypedDict):
    """Why something was decided."""

    code: str
    text: str


class ShadowVerdict(TypedDict):
    """What a policy that runs beside would have done."""

    policy_version: str
    action: Action
    rule_hits: list[str]


class ConditionValue(TypedDict):
    """One condition that the policy looked at, and how it stood."""

    of: str
    text: str
    held: Held


class Decision(Score):
    """schemas/decision.v1.avsc: what was decided, and all that led to it."""

    score_append_time_ms: int
    action: Action
    reasons: list[Reason]
    rule_hits: list[str]
    policy_version: str
    propensity: float
    shadow_verdicts: list[ShadowVerdict]
    conditions: list[ConditionValue]


class Labelled(Decision):
    """schemas/labelled.v1.avsc: a decision with what its event turned out to be."""

    decision_append_time_ms: int
    decision_offset: int
    label: Label
    label_version: int
    label_source: LabelSource
    outcome_id: str | None
    revises: str | None
    observed_time_ms: int
    label_age_ms: int
    outcome_append_time_ms: int | None


class Covered(TypedDict):
    """A stretch of a stage's input that is counted."""

    source_partition: int
    from_offset: int
    to_offset: int


class ScoreTable(TypedDict):
    """Scores in fixed bins; lists of one length."""

    action: str
    bins: list[int]
    counts: list[int]
    probability_sums: list[float]
    variance_sums: list[float]


class ValueCount(TypedDict):
    """How many records had one value in one field."""

    field: str
    value: str | None
    records: int


class ProfileCell(TypedDict):
    """Counts of one window, segment and model version."""

    window_start_ms: int
    segment: str
    model_version: str
    records: int
    inexact_records: int
    features: list[list[int]]
    scores: list[ScoreTable]
    values: list[ValueCount]
    amounts: list[int]


class Profile(TypedDict):
    """schemas/profile.v1.avsc: what one instance of a stage counted since it last told."""

    subject: str
    instance: str
    window_ms: int
    newest_event_time_ms: int
    covered: list[Covered]
    cells: list[ProfileCell]


class DriftAlert(TypedDict):
    """schemas/drift_alert.v1.avsc: something moved, or stopped moving."""

    alert_id: str
    status: AlertStatus
    kind: AlertKind
    subject: str
    segment: str
    model_version: str
    window_start_ms: int
    window_end_ms: int
    statistic: str
    value: float
    threshold: float
    records: int
    is_harm: bool
    text: str
    action: str
    evidence: str


class ModelRelease(TypedDict):
    """schemas/model_release.v1.avsc: a signed model and what to do with it."""

    model_version: str
    move: ModelMove
    why: str
    event_time_ms: int
    manifest: str
    signature: bytes
    model: bytes
    fallback_model: bytes
    actor: str
    expects: str | None
    canary_percent: int
    evidence: str


class PolicyRelease(TypedDict):
    """schemas/policy_release.v1.avsc: a policy and what to do with it."""

    policy_version: str
    author: str
    why: str
    policy: str
    move: PolicyMove
    percent: int
    approver: str | None
    expects: str | None
    diff: str


class ReviewOpened(TypedDict):
    """What a case is about."""

    terminal_id: str
    event_time_ms: int
    amount_minor: int
    currency: str
    value_minor: int
    expected_loss_minor: int
    house_currency: str
    channel: str | None
    country: str | None
    score: float
    reasons: list[Reason]
    rule_hits: list[str]
    model_version: str
    policy_version: str
    feature_status: FeatureStatus
    decision_partition: int
    decision_offset: int
    opened_time_ms: int
    due_time_ms: int
    verdicts_needed: int


class Review(TypedDict):
    """schemas/review.v1.avsc: one step in the life of a case that people look into."""

    case_id: str
    event_id: str
    customer_id: str
    move: ReviewMove
    moved_time_ms: int
    actor: str
    why: str
    opened: ReviewOpened | None
    verdict: Label | None
    escalation: ReviewEscalation | None
    default_action: Action | None
    resolution: ReviewResolution | None
    outcome_id: str | None


class AuditEntry(TypedDict):
    """schemas/audit_entry.v1.avsc: who did what, when, why, and on which subject."""

    audit_id: str
    time_ms: int
    actor: str
    role: str
    action: str
    subject: str
    why: str
    origin: str
    detail: str

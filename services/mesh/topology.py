"""The whole mesh on one page: every stage, what it reads and what it writes. Start here.

``python -m services.mesh.topology`` prints the picture of the README; a test says when the two differ.
A stage's name is its consumer group, its process and its prefix in transactional ids.

To add a stage: 1. its record in ``schemas/`` and ``records.py``; 2. its topic in ``topics.py``; 3. its ``Stage`` here;
4. its room, with the furniture of the nearest service; 5. its line in the import contract (``.importlinter``) and in
``docker-compose.yml``. A forgotten step is named by ``tests/architecture``.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.mesh.picture import draw
from services.mesh.topics import (
    AUDIT,
    DEAD_LETTERS,
    DECISIONS,
    DRIFT_ALERTS,
    EVENTS,
    EVENTS_RAW,
    FEATURES,
    LABELS,
    MODELS,
    OUTCOMES,
    OUTCOMES_ORPHAN,
    OUTCOMES_RAW,
    POLICIES,
    PROFILES,
    REVIEWS,
    SCORES,
    UPDATES_TERMINAL,
    Topic,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One hop of the data plane: a service (or one instance of it) between its topics."""

    name: str
    service: str  # the room under services/
    consumes: Topic
    produces: tuple[Topic, ...]
    also_consumes: tuple[Topic, ...] = ()  # further inputs, co-partitioned with the first and owned together with it
    reads_whole: tuple[Topic, ...] = ()  # control topics that every instance reads from the start, outside its group
    state: str = ""  # what it keeps between events, if anything
    lane: int = 0  # of its first input, the next ones follow: tells apart who writes the same topic (a test looks)
    marked: bool = True  # its input was written by a stage, so every record says which hop it comes from

    @property
    def inputs(self) -> tuple[Topic, ...]:
        """All that it consumes; a partition's number begins with the place in here (``ports.LANE``)."""
        return (self.consumes, *self.also_consumes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Participant:
    """Somebody who reads or writes topics without being a transactional stage."""

    name: str
    service: str
    consumes: tuple[Topic, ...] = ()
    produces: tuple[Topic, ...] = ()


INGESTION = Stage(
    name="ingestion",
    service="ingestion",
    consumes=EVENTS_RAW,
    produces=(EVENTS, DEAD_LETTERS, EVENTS_RAW, PROFILES),
    state="an event-time clock and seen identities for each partition",
    marked=False,
)
FEATURES_CUSTOMER = Stage(
    name="features-customer",
    service="features",
    consumes=EVENTS,
    produces=(UPDATES_TERMINAL, DEAD_LETTERS),
    state="exact windows for each customer",
)
FEATURES_TERMINAL = Stage(
    name="features-terminal",
    service="features",
    consumes=UPDATES_TERMINAL,
    produces=(FEATURES, DEAD_LETTERS),
    state="exact windows and labels for each terminal",
)
SCORING = Stage(
    name="scoring",
    service="scoring",
    consumes=FEATURES,
    produces=(SCORES, DEAD_LETTERS, PROFILES),
    reads_whole=(MODELS,),
)
DECIDING = Stage(
    name="decisions",
    service="decisions",
    consumes=SCORES,
    produces=(DECISIONS, DEAD_LETTERS, PROFILES),
    reads_whole=(POLICIES,),
    state="the day's reviews and its rules' hits for each partition",
)

OUTCOME_INTAKE = Stage(
    name="ingestion-outcomes",
    service="ingestion",
    consumes=OUTCOMES_RAW,
    produces=(OUTCOMES, DEAD_LETTERS, OUTCOMES_RAW),
    state="a clock of observations and seen identities for each partition",
    marked=False,
)
FEEDBACK = Stage(
    name="feedback",
    service="feedback",
    consumes=DECISIONS,
    also_consumes=(OUTCOMES,),
    produces=(LABELS, OUTCOMES_ORPHAN, UPDATES_TERMINAL, DEAD_LETTERS),
    state="decisions of 120 days, and outcomes that wait",
    lane=1,
)
REVIEW = Stage(
    name="review",
    service="review",
    consumes=DECISIONS,
    also_consumes=(LABELS,),
    produces=(REVIEWS, AUDIT, DEAD_LETTERS),
    state="cases that wait for people",
)

# From what a producer sends to the decision: the stages that an event passes, in their order.
EVENT_CHAIN: tuple[Stage, ...] = (INGESTION, FEATURES_CUSTOMER, FEATURES_TERMINAL, SCORING, DECIDING)
STAGES: tuple[Stage, ...] = (*EVENT_CHAIN, REVIEW, OUTCOME_INTAKE, FEEDBACK)

SIMULATOR = Participant(
    name="simulator", service="simulator", consumes=(DECISIONS,), produces=(EVENTS_RAW, OUTCOMES_RAW)
)
DRIFT = Participant(name="drift", service="drift", consumes=(PROFILES, LABELS, MODELS), produces=(DRIFT_ALERTS,))
RETRAINING = Participant(
    name="retraining", service="retraining", consumes=(LABELS, DRIFT_ALERTS, MODELS), produces=(MODELS,)
)
DEPLOY = Participant(name="deploy", service="platform", produces=(POLICIES,))
COMMANDS = Participant(name="cli", service="cli", consumes=(REVIEWS, AUDIT), produces=(OUTCOMES_RAW, REVIEWS, AUDIT))
# The page for people: looks at everybody's numbers, works the review queue, sends refused records once more.
CONSOLE = Participant(
    name="console",
    service="console",
    consumes=(DECISIONS, DEAD_LETTERS, DRIFT_ALERTS, MODELS, POLICIES, AUDIT),
    produces=(EVENTS_RAW, OUTCOMES_RAW, REVIEWS, AUDIT),
)
LOOKUP = Participant(
    name="lookup", service="lookup", consumes=(DECISIONS, DEAD_LETTERS, OUTCOMES_RAW, LABELS, OUTCOMES_ORPHAN)
)

# Other systems, told of decisions over HTTP.
WEBHOOKS = Participant(name="webhooks", service="webhooks", consumes=(DECISIONS,), produces=(DEAD_LETTERS,))

# Everybody who sends over HTTP, and asks what became of it.
GATEWAY = Participant(
    name="gateway", service="gateway", consumes=(DECISIONS, DEAD_LETTERS), produces=(EVENTS_RAW, OUTCOMES_RAW)
)

PARTICIPANTS: tuple[Participant, ...] = (
    SIMULATOR, GATEWAY, DRIFT, RETRAINING, DEPLOY, COMMANDS, CONSOLE, LOOKUP, WEBHOOKS,
)  # fmt: skip


def stage_named(name: str) -> Stage:
    """The stage called ``name``; KeyError when the mesh has none."""
    return {stage.name: stage for stage in STAGES}[name]


def owner_of(instance: str) -> str:
    """``ingestion-0`` is one of ingestion's; a stage's own name may hold hyphens too, other processes have no slot."""
    name, _, slot = instance.rpartition("-")
    return name if name and slot.isdecimal() else instance


def picture() -> str:
    """The mesh as a drawing: the flow from the outside to the decision, and who else reads and writes."""
    return draw(STAGES, PARTICIPANTS)


if __name__ == "__main__":
    import sys

    sys.stdout.write(picture())

"""The names that a condition may use: event fields, score, features, and the policy's own lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from services.decisions.syntax import Node


class Type(Enum):
    """What a part of a condition yields."""

    NUMBER = "a number"
    TEXT = "a text"
    TRUTH = "true or false"
    UNKNOWN = "unknown"  # already reported as a mistake; whoever meets it stays silent


EVENT_NUMBERS = ("amount", "amount_minor", "event_time_ms", "score", "challenger_gap", "missing_features")
EVENT_TEXTS = (
    "customer_id",
    "terminal_id",
    "currency",
    "channel",
    "country",
    "device_id",
    "model_version",
    "feature_status",
)
# Never null in a scored event, so `is missing` on them can only be a misunderstanding.
ALWAYS_PRESENT = frozenset(
    {
        "amount",
        "amount_minor",
        "event_time_ms",
        "customer_id",
        "terminal_id",
        "model_version",
        "feature_status",
        "missing_features",
    }
)
FEATURE_STATUSES = ("ok", "saturated", "stale", "fallback")


@dataclass(frozen=True, slots=True)
class TextList:
    """A named list of a policy; ``field`` is the one column that it may be compared with, None for any text."""

    name: str
    field: str | None
    values: frozenset[str]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Every name by its meaning.

    ``features`` are float32 columns; a literal that meets one is rounded to float32 first, so that ``rate > 0.1`` is
    false for the rate 0.1. A feature with the name of an event field (``amount``) is read from the event, exactly.
    ``challenger_gap`` is the largest distance between the score and a challenger's (missing without challengers),
    ``missing_features`` how many columns of the vector are missing.
    """

    columns: Mapping[str, Type]
    features: frozenset[str]
    lists: Mapping[str, TextList] = field(default_factory=dict)
    definitions: Mapping[str, Node] = field(default_factory=dict)  # the policy's own names, already expanded
    leaves: dict[Any, Any] = field(default_factory=dict)  # of its conditions: see ``compilation.Leaf``


def payments_vocabulary(feature_names: Iterable[str], lists: Mapping[str, TextList]) -> Vocabulary:
    """Build the vocabulary of scored card payments with the features of the set in force."""
    event = {**dict.fromkeys(EVENT_NUMBERS, Type.NUMBER), **dict.fromkeys(EVENT_TEXTS, Type.TEXT)}
    features = frozenset(feature_names) - event.keys()
    return Vocabulary({**dict.fromkeys(features, Type.NUMBER), **event}, features, lists)

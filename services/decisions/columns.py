"""A batch of scored events as the columns that a policy reads. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from services.mesh.currency import EXPONENTS

_INTEGERS = frozenset({"amount_minor", "event_time_ms"})
_MADE_OF = {
    "amount": {"amount_minor", "currency"},
    "challenger_gap": {"score", "challenger_scores"},
    "missing_features": set(),
}


def fields_of(reads: frozenset[str], feature_names: Sequence[str]) -> set[str]:
    """The fields of a scored event, beside its vector, that the columns in ``reads`` are made of."""
    fields: set[str] = set()
    for name in reads:
        if name in _MADE_OF:
            fields |= _MADE_OF[name]
        elif name not in feature_names:
            fields.add(name)
    return fields


def columns_of(
    events: Sequence[dict[str, Any]], reads: frozenset[str], feature_names: Sequence[str]
) -> dict[str, npt.NDArray[Any]]:
    """Columns of shape (n,) by name, for the names in ``reads``.

    Features are float32 by name (NaN: missing), ``score`` and ``amount`` float64 (major units), times and minor units
    int64, ``challenger_gap`` (the largest distance between the score and a challenger's) and ``missing_features`` (how
    many columns of the vector are NaN) float64, every other field an object column with None for null.
    """
    rows = np.frombuffer(b"".join([e["vector"] for e in events]), dtype=np.float32).reshape(len(events), -1)
    places = {name: place for place, name in enumerate(feature_names)}
    columns: dict[str, npt.NDArray[Any]] = {}
    for name in reads:
        if name == "amount":
            columns[name] = np.array([e["amount_minor"] / 10 ** EXPONENTS[e["currency"]] for e in events])
        elif name in places:
            columns[name] = rows[:, places[name]]
        elif name == "score":
            columns[name] = np.array([e["score"] for e in events], dtype=np.float64)
        elif name == "challenger_gap":
            columns[name] = np.array([_gap(e["score"], e["challenger_scores"]) for e in events], dtype=np.float64)
        elif name == "missing_features":
            columns[name] = np.isnan(rows).sum(axis=1).astype(np.float64)
        elif name in _INTEGERS:
            columns[name] = np.array([e[name] for e in events], dtype=np.int64)
        else:
            columns[name] = np.array([e[name] for e in events], dtype=object)
    return columns


def _gap(score: float, challengers: Sequence[dict[str, Any]]) -> float:
    return max((abs(each["score"] - score) for each in challengers), default=float("nan"))

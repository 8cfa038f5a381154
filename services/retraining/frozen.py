"""The model's frozen reference: what its training rows and its scores looked like, for drift to compare with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.mesh.reference import (
    SEGMENT_ROWS_MIN,
    SEGMENTS_MAX,
    FeatureReference,
    Reference,
    day_numbers,
    feature_reference,
    score_reference,
)
from services.retraining.dataset import Part, Recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the training rows looked like: ``Reference`` without its scores."""

    rows: int
    days: int
    features: tuple[FeatureReference, ...]
    segments: Mapping[str, tuple[tuple[int, ...], ...]]


def seen_features(recorded: Recorded, learned: Part, segments: Sequence[str] | None) -> Seen:
    """Features over ``learned`` (exact vectors only). segments: of every recorded row, None: not known."""
    rows, days = recorded.rows[learned.index], day_numbers(recorded.event_time_ms[learned.index])
    features, bins = feature_reference(rows, days)
    by_segment: dict[str, tuple[tuple[int, ...], ...]] = {}
    if segments is not None:
        names = np.array(segments, dtype=object)[learned.index]
        for name, count in Counter(names.tolist()).most_common(SEGMENTS_MAX):
            if count >= SEGMENT_ROWS_MIN:
                by_segment[name] = tuple(tuple(counts.tolist()) for counts in bins.count(rows[names == name]))
    return Seen(rows=len(rows), days=len(np.unique(days)), features=features, segments=by_segment)


def frozen_reference(
    seen: Seen,
    recorded: Recorded,
    validation: Part,
    scores: npt.NDArray[np.float64],
    validated: npt.NDArray[np.float64],
    actions: Mapping[str, int] | None,
) -> Reference:
    """``seen``, and the scores over ``validation`` (exact vectors only).

    scores, validated: of the model that serves and of the one that was validated, float64, in the order of
    ``validation``. actions: how many decisions of each kind the rows led to, None: not known.
    """
    return Reference(
        rows=seen.rows,
        days=seen.days,
        features=seen.features,
        scores=score_reference(
            scores, validated, validation.fraud, day_numbers(recorded.event_time_ms[validation.index])
        ),
        segments=seen.segments,
        actions=dict(actions or {}),
    )

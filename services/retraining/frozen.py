"""The model's frozen reference: what its training rows and its scores looked like, for drift to compare with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from services.mesh.reference import (
    SEGMENT_ROWS_MIN,
    SEGMENTS_MAX,
    Reference,
    day_numbers,
    feature_reference,
    score_reference,
)
from services.retraining.dataset import Part, Recorded


def frozen_reference(
    recorded: Recorded,
    learned: Part,
    validation: Part,
    scores: npt.NDArray[np.float64],
    validated: npt.NDArray[np.float64],
    segments: Sequence[str] | None,
    actions: Mapping[str, int] | None,
) -> Reference:
    """Features over ``learned``, scores over ``validation`` (both exact vectors only).

    scores, validated: of the model that serves and of the one that was validated, float64, in the order of
    ``validation``. segments: of every recorded row, None: not known. actions: how many decisions of each kind the rows
    led to, None: not known.
    """
    rows, days = recorded.rows[learned.index], day_numbers(recorded.event_time_ms[learned.index])
    features, bins = feature_reference(rows, days)
    by_segment: dict[str, tuple[tuple[int, ...], ...]] = {}
    if segments is not None:
        names = np.array(segments, dtype=object)[learned.index]
        for name, count in Counter(names.tolist()).most_common(SEGMENTS_MAX):
            if count >= SEGMENT_ROWS_MIN:
                by_segment[name] = tuple(tuple(counts.tolist()) for counts in bins.count(rows[names == name]))
    return Reference(
        rows=len(rows),
        days=len(np.unique(days)),
        features=features,
        scores=score_reference(
            scores, validated, validation.fraud, day_numbers(recorded.event_time_ms[validation.index])
        ),
        segments=by_segment,
        actions=dict(actions or {}),
    )

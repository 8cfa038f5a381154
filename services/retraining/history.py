"""All of ``labels.v1`` up to now, read at once: one row an event, with the last label known by the cut-off. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from services.retraining.dataset import FRAUD, GENUINE, Recorded, TrainingRefused
from services.retraining.holdout import is_held_out
from services.retraining.labels import Labels
from services.retraining.snapshot import Snapshot


def newest_observed_ms(parts: Sequence[Labels]) -> int:
    """The newest moment that any label tells of; 0 when there are none."""
    return max((int(part.observed_ms.max(initial=0)) for part in parts), default=0)


def snapshot_of(parts: Sequence[Labels], cut_off_ms: int) -> Snapshot:
    """Every event of ``parts`` by its highest label version observed by ``cut_off_ms``. Raises TrainingRefused."""
    known = np.flatnonzero(_joined(parts, "observed_ms") <= cut_off_ms) if parts else np.empty(0, dtype=np.intp)
    if not len(known):
        raise TrainingRefused("no label is known yet; wait until outcomes have come")
    identity, times = _joined(parts, "identity"), _joined(parts, "event_time_ms")
    order = known[np.lexsort((_joined(parts, "version")[known], identity[known]))]
    last = order[np.append(np.diff(identity[order].view(np.int64)) != 0, True)]
    # By time: the order in which labels came leaves no trace, and a sorted file is a smaller one.
    last = last[np.argsort(times[last], kind="stable")]
    fraud, bucket = _joined(parts, "fraud")[last], _joined(parts, "bucket")[last]
    return Snapshot(
        recorded=Recorded(
            rows=_joined(parts, "rows")[last],
            event_time_ms=times[last],
            label=np.where(fraud, FRAUD, GENUINE).astype(np.int8),
            observed_ms=_joined(parts, "observed_ms")[last],
            exact=_joined(parts, "exact")[last],
            weight=_joined(parts, "weight")[last].astype(np.float32),
            held_out=is_held_out(bucket),
        ),
        identity=identity[last],
        segments=_joined(parts, "channels")[last].tolist(),
        actions=_joined(parts, "actions")[last].tolist(),
    )


def _joined(parts: Sequence[Labels], name: str) -> npt.NDArray[Any]:
    """A column of all parts; texts as objects."""
    columns = [getattr(part, name) for part in parts]
    return np.concatenate([np.array(c, dtype=object) if isinstance(c, list) else c for c in columns])

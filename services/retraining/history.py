"""All of ``labels.v1`` up to now, read at once: one row an event, with the last label known by the cut-off. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.retraining.dataset import FRAUD, GENUINE, Recorded, TrainingRefused
from services.retraining.holdout import is_held_out
from services.retraining.labels import Labels
from services.retraining.snapshot import Snapshot


def newest_observed_ms(parts: Sequence[Labels]) -> int:
    """The newest moment that any label tells of; 0 when there are none."""
    return max((int(part.observed_ms.max(initial=0)) for part in parts), default=0)


def snapshot_of(parts: Sequence[Labels], cut_off_ms: int) -> Snapshot:
    """Every event of ``parts`` by its highest label version observed by ``cut_off_ms``. Raises TrainingRefused."""
    known = [part.observed_ms <= cut_off_ms for part in parts]
    if not sum(int(rows.sum()) for rows in known):
        raise TrainingRefused("no label is known yet; wait until outcomes have come")
    identity = np.concatenate([part.identity[rows] for part, rows in zip(parts, known, strict=True)])
    version = np.concatenate([part.version[rows] for part, rows in zip(parts, known, strict=True)])
    order = np.lexsort((version, identity))
    last = order[np.append(np.diff(identity[order].view(np.int64)) != 0, True)]
    # By time: the order in which labels came leaves no trace, and a sorted file is a smaller one.
    times = np.concatenate([part.event_time_ms[rows] for part, rows in zip(parts, known, strict=True)])
    last = last[np.argsort(times[last], kind="stable")]
    joined = {
        name: np.concatenate([getattr(part, name)[rows] for part, rows in zip(parts, known, strict=True)])[last]
        for name in ("event_time_ms", "observed_ms", "fraud", "exact", "weight", "bucket")
    }
    texts = {
        name: np.concatenate(
            [np.array(getattr(part, name), dtype=object)[rows] for part, rows in zip(parts, known, strict=True)]
        )[last].tolist()
        for name in ("channels", "actions")
    }
    return Snapshot(
        recorded=Recorded(
            rows=np.concatenate([part.rows[rows] for part, rows in zip(parts, known, strict=True)])[last],
            event_time_ms=joined["event_time_ms"],
            label=np.where(joined["fraud"], FRAUD, GENUINE).astype(np.int8),
            observed_ms=joined["observed_ms"],
            exact=joined["exact"],
            weight=joined["weight"].astype(np.float32),
            held_out=is_held_out(joined["bucket"]),
        ),
        identity=identity[last],
        segments=texts["channels"],
        actions=texts["actions"],
    )

"""What a trainer's end means: its exit status, and the last line that it said."""

from __future__ import annotations

from pathlib import Path

import orjson

from services.retraining.events import Event, Trained, TrainingFailed
from services.retraining.handover import EXIT_REFUSED, LINEAGE


def outcome_of(status: int, output: bytes) -> Event:
    """What the trainer's end means."""
    try:
        answer = orjson.loads(output.splitlines()[-1])
    except (IndexError, orjson.JSONDecodeError):
        answer = {}
    if status == EXIT_REFUSED and "refused" in answer:
        return TrainingFailed(why=str(answer["refused"]))
    if status != 0 or "folder" not in answer:
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return TrainingFailed(why=f"the trainer ended with {how} and left no model; its log says more")
    folder = Path(answer["folder"])
    about = orjson.loads((folder / LINEAGE).read_bytes())
    return Trained(
        model_version=about["model_version"],
        feature_set=about["feature_set"],
        folder=str(folder),
        measures=about["measures"],
    )

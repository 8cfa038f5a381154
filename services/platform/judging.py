"""Judging a run at its end, while its broker still answers: what is in the log, against what the input knew."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from services.mesh.manifest import parse
from services.platform import recording
from services.platform.files import write_atomically
from services.platform.moments import moments_of
from services.platform.quality import Quality, quality_of
from services.simulator.sources import open_source
from services.simulator.speed import parse_duration_s

RECORDING, MOMENTS = "recording.parquet", "moments.json"


def judge_file(kafka: str, file: str, label_delay: str) -> Quality | None:
    """How good the scores for ``file`` were; None when it tells no truth, or too little. Raises Transient."""
    source = open_source(file, round(parse_duration_s(label_delay, "LABEL_DELAY") * 1_000))
    truth: dict[tuple[str, str], bool] = {}
    for chunk in source.chunks(0):
        if chunk.truth is not None:
            told = chunk.truth
            truth.update(zip(zip(told.customer_ids, told.event_ids, strict=True), told.fraud.tolist(), strict=True))
    if not truth:
        return None
    return quality_of(recording.read_decisions(kafka), recording.read_labels(kafka), truth)


def record(kafka: str, folder: Path) -> None:
    """Leave in ``folder`` what the scenario judges by: decisions with the first model's scores, and moments.

    Raises Transient.
    """
    decisions, releases = recording.read_decisions(kafka), recording.read_releases(kafka)
    first = recording.first_bundle(releases)
    frozen = np.full(len(decisions), np.nan) if first is None else recording.scores_by(first, decisions)
    columns = {name: getattr(decisions, name) for name in decisions.__slots__ if name != "rows"}
    pq.write_table(pa.table({**columns, "first_model_score": frozen}), folder / RECORDING)
    moments = moments_of(releases, recording.read_alerts(kafka))
    labelled = np.sort(np.concatenate([part.observed_ms[part.version > 0] for part in recording.read_labels(kafka)]))
    write_atomically(
        folder / MOMENTS,
        json.dumps(
            {
                "moments": [[moment.time_ms, moment.kind, moment.detail] for moment in moments],
                "first_model": None if first is None else parse(first.manifest).model_version,
                "labelled_ms": labelled.tolist(),
            }
        ),
    )

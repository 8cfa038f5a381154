"""The data of one training in one Parquet file: what was learned from, kept, named by its content, readable by anybody.

A training reads its own snapshot back before it learns, so that the file is what made the model and not a copy beside
it. The file's sha256 and where in the log it came from go into the signed manifest.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from services.mesh.errors import WeirError
from services.mesh.feature_set import FeatureSetPin
from services.retraining.dataset import Recorded

_COLUMNS = ("event_time_ms", "label", "observed_ms", "exact", "weight", "held_out")
_CHUNK_BYTES = 1 << 20
_FEATURE_SET = b"weir.feature_set"


class SnapshotRefused(WeirError):
    """The file is not what it was when it was written, or not for these features; nothing is learned from it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Snapshot:
    """Recorded vectors with their labels, and what else is known of each row (shape (n,))."""

    recorded: Recorded
    identity: npt.NDArray[np.uint64]
    segments: Sequence[str]  # channel, empty: not told
    actions: Sequence[str]


def write(snapshot: Snapshot, path: Path, features: FeatureSetPin) -> str:
    """Write, whole or not at all; the file's sha256."""
    recorded = snapshot.recorded
    columns: dict[str, pa.Array] = {"identity": pa.array(snapshot.identity)}
    columns |= {name: pa.array(getattr(recorded, name)) for name in _COLUMNS}
    columns["channel"] = pa.array(snapshot.segments, pa.string()).dictionary_encode()
    columns["action"] = pa.array(snapshot.actions, pa.string()).dictionary_encode()
    for place, name in enumerate(features.names):
        columns[f"feature_{name}"] = pa.array(np.ascontiguousarray(recorded.rows[:, place]))
    table = pa.table(columns).replace_schema_metadata({_FEATURE_SET: features.content_hash.encode()})
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    pq.write_table(
        table, temporary, compression="snappy", use_dictionary=["channel", "action", "label", "exact", "held_out"]
    )
    os.replace(temporary, path)
    return sha256_of(path)


def read(path: Path, sha256: str, features: FeatureSetPin) -> Snapshot:
    """What ``write`` wrote. Raises SnapshotRefused when the file is another, damaged, or of other features."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SnapshotRefused(f"snapshot {path}: {error.strerror}") from None
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise SnapshotRefused(f"snapshot {path}: sha256 {found}, written was {sha256}; take a new one from the log")
    try:
        table = pq.read_table(pa.BufferReader(content))
    except (pa.ArrowInvalid, OSError) as error:
        raise SnapshotRefused(f"snapshot {path}: {error}") from None
    made_for = (table.schema.metadata or {}).get(_FEATURE_SET, b"").decode()
    if made_for != features.content_hash:
        raise SnapshotRefused(f"snapshot {path}: of feature set {made_for}, this code has {features.content_hash}")
    rows = np.empty((table.num_rows, len(features.names)), dtype=np.float32)
    for place, name in enumerate(features.names):
        rows[:, place] = table[f"feature_{name}"].to_numpy()
    columns = {name: table[name].to_numpy() for name in _COLUMNS}
    return Snapshot(
        recorded=Recorded(rows=rows, **columns),
        identity=table["identity"].to_numpy(),
        segments=table["channel"].to_numpy().tolist(),
        actions=table["action"].to_numpy().tolist(),
    )


def sha256_of(path: Path) -> str:
    """Of the file's bytes, lower-case hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()

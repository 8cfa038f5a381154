"""Checkpoints on disk: one JSON file, one entry a source, replaced whole so that a crash leaves the old one."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from services.mesh.errors import Fatal
from services.simulator.analysts import Notebook
from services.simulator.ledger import Checkpoint


class StateFile:
    """The checkpoints of a data directory; without a path nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        # Apart: it is long and written once a day of event time, checkpoints are short and written twice a second.
        self._notebooks = None if path is None else path.with_name(f"{path.stem}-analysts.json")
        self._entries: dict[str, Any] = _read(path) if path is not None and path.exists() else {}

    def load(self, source: str) -> Checkpoint | None:
        """The source's checkpoint; None when it was never begun."""
        entry = self._entries.get(source)
        if entry is None:
            return None
        try:
            return Checkpoint(
                position=int(entry["position"]),
                released_until_ms=None if entry["released_until_ms"] is None else int(entry["released_until_ms"]),
                sent=int(entry["sent"]),
                outcomes=int(entry["outcomes"]),
                offsets={
                    (topic, int(partition)): int(offset)
                    for topic, partitions in entry["offsets"].items()
                    for partition, offset in partitions.items()
                },
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise Fatal(
                f"{self._path}: entry {source!r} is damaged ({error!r}); delete the file to start over"
            ) from error

    def load_notebook(self, source: str) -> Notebook | None:
        """What analysts knew of the source; None when they never looked into it."""
        if self._notebooks is None or not self._notebooks.exists():
            return None
        try:
            entry = _read(self._notebooks).get(source)
            return (
                None
                if entry is None
                else Notebook(
                    evening_ms=int(entry["evening_ms"]),
                    chosen={int(evening): list(customers) for evening, customers in entry["chosen"].items()},
                    defrauded={name: (str(event), int(since)) for name, (event, since) in entry["defrauded"].items()},
                    offsets={int(partition): int(offset) for partition, offset in entry["offsets"].items()},
                )
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise Fatal(f"{self._notebooks}: is damaged ({error!r}); delete it to start over") from error

    def save_notebook(self, source: str, notebook: Notebook) -> None:
        """Keep what analysts know of the one source that they look into; on disk when this returns."""
        if self._notebooks is not None:
            _replace(self._notebooks, orjson.dumps({source: asdict(notebook)}, option=orjson.OPT_NON_STR_KEYS))

    def save(self, source: str, checkpoint: Checkpoint) -> None:
        """Keep ``checkpoint``; on disk when this returns."""
        if self._path is None:
            return
        offsets: dict[str, dict[str, int]] = {}
        for (topic, partition), offset in checkpoint.offsets.items():
            offsets.setdefault(topic, {})[str(partition)] = offset
        self._entries[source] = {
            "position": checkpoint.position,
            "released_until_ms": checkpoint.released_until_ms,
            "sent": checkpoint.sent,
            "outcomes": checkpoint.outcomes,
            "offsets": offsets,
        }
        _replace(self._path, orjson.dumps(self._entries, option=orjson.OPT_INDENT_2))


def _read(path: Path) -> dict[str, Any]:
    try:
        entries = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise Fatal(f"{path}: cannot be read ({error}); delete it to start over") from error
    if not isinstance(entries, dict):
        raise Fatal(f"{path}: holds {type(entries).__name__} where an object belongs; delete it to start over")
    return entries


def _replace(path: Path, content: bytes) -> None:
    new = path.with_suffix(path.suffix + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(new, path)
    except OSError as error:
        raise Fatal(f"{path}: progress cannot be written ({error}); free space or choose another --state") from error

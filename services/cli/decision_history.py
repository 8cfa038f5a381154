"""Recorded decisions as columns, read once from the log and kept on disk: where ``weir policy backtest`` starts.

``D/history/<cluster>/`` holds files of a partition's stretch of ``decisions.v1`` or ``labels.v1``, named by its
offsets. A file is written whole or not at all, holds nothing that the log does not, and may be deleted at any time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.decisions.history import NUMBERS, TEXTS, UNKNOWN, Coded, History, Spelled, said_of
from services.decisions.precedence import WANTED
from services.decisions.verdict import ACTIONS
from services.mesh.adapters.kafka_reader import cluster_of
from services.mesh.adapters.log_reader import LogReader
from services.mesh.codec import schema
from services.mesh.columns import Columns, Spans, Table, fingerprints
from services.mesh.feature_set import FeatureSetPin
from services.mesh.topics import DECISIONS, LABELS, Topic

Arrays = dict[str, NDArray[Any]]

ROWS_READ = 50_000  # turned into columns at once: some 100 MB of records and cursors
ROWS_FILE = 200_000  # a partition's last file is written anew until it holds so many
FORMAT = 1  # of the files; another one is another folder

_DECISION = (
    *("event_id", "customer_id", "terminal_id", "event_time_ms", "amount_minor", "currency", "channel", "country"),
    *("device_id", "feature_set", "feature_status", "vector", "score", "model_version", "challenger_scores", "action"),
    *("reasons", "rule_hits", "policy_version", "propensity"),
)
_LABELLED = ("decision_offset", "label", "label_version")
_NULLABLE = frozenset({"channel", "country", "device_id"})
_ENUMS = {"feature_status": "feature_status", "action": "action"}


def read_history(
    data_dir: Path, kafka: str, features: FeatureSetPin, note: Callable[[str, int], None]
) -> tuple[History, int]:
    """Everything decided so far, with the labels known so far, and how many decisions had other features.

    ``note`` is told a topic and how many of its records are being read from the log. Raises Transient.
    """
    log = LogReader(kafka)
    folder = data_dir / "history" / f"{cluster_of(kafka)}-{FORMAT}-{features.content_hash}"
    decided = _topic(folder, log, DECISIONS, lambda values: _decided(values, features), note)
    labelled = _topic(folder, log, LABELS, _labelled, note)
    return history_of(decided, labelled, features, log.partitions(DECISIONS))


def history_of(
    decided: Mapping[int, Arrays], labelled: Mapping[int, Arrays], features: FeatureSetPin, partitions: int
) -> tuple[History, int]:
    """Partitions' columns as one history, and how many rows were left out because their vector is another set's."""
    parts = [decided[partition] for partition in sorted(decided)]
    numbers = [partition for partition in sorted(decided) for _ in range(len(decided[partition]["offset"]))]
    merged = _merged(parts) if parts else _decided([], features)
    partition = np.array(numbers, np.int32)
    history = History(
        partition=partition,
        offset=merged["offset"],
        texts={name: Coded(_values(merged, name), merged[f"{name}.codes"]) for name in TEXTS},
        event_id=Spelled(merged["event_id.content"], merged["event_id.start"], merged["event_id.length"]),
        numbers={name: merged[name] for name in NUMBERS},
        rows=merged["rows"],
        action=merged["action"],
        wanted=merged["wanted"],
        said=merged["said"],
        rule_hits=Coded(_values(merged, "rule_hits"), merged["rule_hits.codes"]),
        hit_rows=merged["hit_rows"],
        label=_labels(partition, merged["offset"], labelled),
        feature_names=features.names,
        partitions=partitions,
    )
    fits = merged["fits"]
    return (history, 0) if fits.all() else (history.kept(fits), int((~fits).sum()))


def _topic(
    folder: Path,
    log: LogReader,
    topic: Topic,
    columns_of: Callable[[Sequence[bytes]], Arrays],
    note: Callable[[str, int], None],
) -> dict[int, Arrays]:
    """Every partition's columns: from its files, and from the log what came since."""
    known = {partition: _Files(folder, topic.name, partition) for partition in range(log.partitions(topic))}
    starts, ends = log.starts(topic), log.ends(topic)
    for where in starts:
        starts[where] = max(starts[where], known[where[1]].end)
    if left := sum(max(0, ends[where] - starts[where]) for where in starts):
        note(topic.name, left)
    waiting: dict[int, list[Any]] = {}

    def turned(partition: int, messages: list[Any]) -> None:
        arrays = columns_of([message.value() or b"" for message in messages])
        offsets = np.array([message.offset() for message in messages], np.int64)
        known[partition].add(_kept_sound(arrays | {"offset": offsets}), int(offsets[0]), int(offsets[-1]) + 1)

    for batch in log.batches(starts, ends):
        for message in batch:
            waiting.setdefault(message.partition(), []).append(message)
        for partition in [p for p, messages in waiting.items() if len(messages) >= ROWS_READ]:
            turned(partition, waiting.pop(partition))
    for partition, messages in waiting.items():
        turned(partition, messages)
    return {partition: found for partition, files in known.items() if (found := files.all()) is not None}


class _Files:
    """One partition's files."""

    def __init__(self, folder: Path, topic: str, partition: int) -> None:
        self._folder = folder
        self._prefix = f"{topic}-{partition}-"
        found: list[tuple[int, int, Path]] = []
        for file in folder.glob(f"{self._prefix}*.npz"):
            first, last = file.stem.removeprefix(self._prefix).split("-")
            found.append((int(first), int(last), file))
        # The last file is written anew as it grows; one that was not yet taken away lies within its successor.
        found.sort(key=lambda each: (each[0], -each[1]))
        self._known: list[tuple[int, int, Path]] = []
        for start, end, file in found:
            if start >= self.end:
                self._known.append((start, end, file))
            else:
                file.unlink(missing_ok=True)

    @property
    def end(self) -> int:
        """The first offset that no file holds."""
        return self._known[-1][1] if self._known else 0

    def add(self, arrays: Arrays, start: int, end: int) -> None:
        """Write a stretch behind the others, together with the last file where that is small."""
        replaced: Path | None = None
        if self._known:
            last_start, _, last = self._known[-1]
            before = _loaded(last)
            if len(before["offset"]) < ROWS_FILE:
                arrays, start, replaced = _merged([before, arrays]), last_start, last
                self._known.pop()
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / f"{self._prefix}{start:020d}-{end:020d}.npz"
        temporary = file.with_suffix(f".{os.getpid()}")
        with temporary.open("wb") as out:
            np.savez(out, **arrays)  # type: ignore[arg-type]
        temporary.replace(file)
        self._known.append((start, end, file))
        if replaced is not None:
            replaced.unlink(missing_ok=True)

    def all(self) -> Arrays | None:
        """The whole partition; None where there is nothing."""
        parts = [_loaded(file) for _, _, file in self._known]
        return _merged(parts) if parts else None


def _decided(values: Sequence[bytes], features: FeatureSetPin) -> Arrays:
    """Columns of decisions."""
    avro = schema("decision.v1.avsc")
    table = Columns(avro, _DECISION).read(values)
    count = len(values)
    arrays: Arrays = {"sound": table.sound}
    for name in ("event_time_ms", "amount_minor", "score", "propensity"):
        arrays[name] = table.numbers[name]
    symbols = {field["name"]: field["type"] for field in avro.fields if field["name"] in _ENUMS}
    for name in TEXTS:
        if name in _ENUMS:
            _put(arrays, name, list(symbols[name]["symbols"]), table.numbers[name])
        else:
            texts, codes = table.names(table.spans[name])
            named: list[str | None] = [None if name in _NULLABLE and text == "" else text for text in texts]
            _put(arrays, name, named, codes)
    ids = table.spans["event_id"]
    arrays["event_id.content"], arrays["event_id.start"] = _spelled(table.content, ids)
    arrays["event_id.length"] = ids.length
    arrays["action"] = table.numbers["action"].astype(np.uint8)
    rows, fits = table.matrix(table.spans["vector"], len(features.names))
    sets, which = table.names(table.spans["feature_set"])
    arrays["rows"] = rows
    arrays["fits"] = fits & np.array([name == features.content_hash for name in sets] or [False])[which]
    arrays["challenger_gap"] = _gaps(table, arrays["score"])
    reason_rows, reasons = _items(table, "reasons", "code")
    hit_rows, hits = _items(table, "rule_hits", "")
    arrays["hit_rows"] = hit_rows
    names, places = _names(table, hits)
    _put(arrays, "rule_hits", names, places)
    arrays["wanted"] = _wanted(table, arrays["action"], reason_rows, reasons)
    # In the order of `said_by`: reasons' codes, an empty text, rules' names.
    between = np.zeros(count, np.int64)
    spans = Spans(
        np.concatenate([reasons.start, between, hits.start]), np.concatenate([reasons.length, between, hits.length])
    )
    owners = np.concatenate([reason_rows, np.arange(count), hit_rows])
    order = np.argsort(owners, kind="stable")
    arrays["said"] = said_of(fingerprints(table.content, spans)[order], owners[order], count)
    return arrays


def _labelled(values: Sequence[bytes]) -> Arrays:
    """Columns of labels."""
    avro = schema("labelled.v1.avsc")
    table = Columns(avro, _LABELLED).read(values)
    symbols = next(field["type"] for field in avro.fields if field["name"] == "label")["symbols"]
    return {
        "sound": table.sound,
        "decision_offset": table.numbers["decision_offset"],
        "fraud": table.numbers["label"] == symbols.index("fraud"),
        "label_version": table.numbers["label_version"],
    }


def _labels(
    partition: NDArray[np.int32], offset: NDArray[np.int64], labelled: Mapping[int, Arrays]
) -> NDArray[np.int8]:
    """The last version of each decision's label, UNKNOWN where there is none."""
    labels = np.full(len(offset), UNKNOWN, np.int8)
    for number, arrays in labelled.items():
        own = np.flatnonzero(partition == number)
        order = np.lexsort((arrays["offset"], arrays["label_version"]))
        wanted = arrays["decision_offset"][order]
        place = np.searchsorted(offset[own], wanted)
        found = (place < len(own)) & (offset[own[np.minimum(place, len(own) - 1)]] == wanted) if len(own) else []
        labels[own[place[found]]] = arrays["fraud"][order][found]
    return labels


def _wanted(table: Table, action: NDArray[np.uint8], owners: NDArray[np.int64], codes: Spans) -> NDArray[np.uint8]:
    """The action before chance had its say, which the first reason tells."""
    wanted = action.copy()
    rows, first = np.unique(owners, return_index=True)
    names, places = _names(table, Spans(codes.start[first], codes.length[first]))
    for place, name in enumerate(names):
        if name in WANTED:
            wanted[rows[places == place]] = ACTIONS.index(WANTED[name])
    return wanted


def _gaps(table: Table, score: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest distance between the score and a challenger's, NaN without challengers."""
    owners, numbers, _ = table.items["challenger_scores"]
    gaps = np.full(len(score), -1.0)
    if len(owners):
        np.maximum.at(gaps, owners, np.abs(numbers["score"] - score[owners]))
    return np.where(gaps < 0, np.nan, gaps)


def _items(table: Table, field: str, name: str) -> tuple[NDArray[np.int64], Spans]:
    """An array's texts, row by row in their order, and the row of each."""
    owners, _, spans = table.items[field]
    if not len(owners):
        none = np.zeros(0, np.int64)
        return none, Spans(none, none)
    order = np.argsort(owners, kind="stable")
    return owners[order], Spans(spans[name].start[order], spans[name].length[order])


def _names(table: Table, spans: Spans) -> tuple[list[str], NDArray[np.int64]]:
    return table.names(spans) if len(spans.start) else ([], np.zeros(0, np.int64))


def _spelled(content: NDArray[np.uint8], spans: Spans) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Texts one behind the other, and where each begins."""
    starts = np.cumsum(spans.length) - spans.length
    within = np.arange(int(spans.length.sum())) - np.repeat(starts, spans.length)
    return content[np.repeat(spans.start, spans.length) + within], starts


def _put(arrays: Arrays, name: str, values: Sequence[str | None], codes: NDArray[Any]) -> None:
    arrays[f"{name}.codes"] = codes.astype(np.int32)
    arrays[f"{name}.values"] = np.frombuffer(json.dumps(list(values)).encode(), np.uint8)


def _values(arrays: Arrays, name: str) -> list[str | None]:
    found: list[str | None] = json.loads(arrays[f"{name}.values"].tobytes())
    return found


def _kept_sound(arrays: Arrays) -> Arrays:
    """Without rows that are no records of ours; there are none in a mesh's own topics."""
    sound = arrays.pop("sound")
    if sound.all():
        return arrays
    moved, kept = np.cumsum(sound) - 1, {}
    hits = sound[arrays["hit_rows"]] if "hit_rows" in arrays else None
    for name, array in arrays.items():
        if name.endswith((".values", ".content")):
            kept[name] = array
        elif hits is not None and name in ("hit_rows", "rule_hits.codes"):
            kept[name] = moved[array[hits]] if name == "hit_rows" else array[hits]
        else:
            kept[name] = array[sound]
    return kept


def _merged(parts: Sequence[Arrays]) -> Arrays:
    """Stretches one behind the other; coded texts get one common code."""
    if len(parts) == 1:
        return parts[0]
    merged: Arrays = {}
    starts = np.cumsum([0, *(len(part["offset"]) for part in parts)])
    for name in parts[0]:
        if name.endswith(".values"):
            continue
        if name.endswith(".codes"):
            stem = name.removesuffix(".codes")
            common: dict[str | None, int] = {}
            recoded = []
            for part in parts:
                places = [common.setdefault(value, len(common)) for value in _values(part, stem)]
                recoded.append(np.array(places, np.int32)[part[name]] if places else part[name])
            _put(merged, stem, list(common), np.concatenate(recoded))
        elif name == "event_id.start":
            pieces = np.cumsum([0, *(len(part["event_id.content"]) for part in parts)])
            merged[name] = np.concatenate([part[name] + piece for part, piece in zip(parts, pieces, strict=False)])
        elif name == "hit_rows":
            merged[name] = np.concatenate([part[name] + start for part, start in zip(parts, starts, strict=False)])
        else:
            merged[name] = np.concatenate([part[name] for part in parts])
    return merged


def _loaded(file: Path) -> Arrays:
    with np.load(file) as found:
        return {name: found[name] for name in found.files}


def rows_of(values: Sequence[bytes], offsets: Sequence[int], features: FeatureSetPin) -> Arrays:
    """Decisions as a partition's columns, for a history that comes from elsewhere than a log."""
    return _kept_sound(_decided(values, features) | {"offset": np.array(offsets, np.int64)})

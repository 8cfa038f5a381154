"""What was decided, column by column: the past that a policy is tried on. Pure.

Rows lie in log order within each partition, one partition behind the other, because that is the order in which fuses
and budgets see them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.decisions.verdict import ACTIONS
from services.mesh.columns import Spans, fingerprints
from services.mesh.currency import EXPONENTS

GENUINE, FRAUD, UNKNOWN = 0, 1, -1

TEXTS = (
    "customer_id",
    "terminal_id",
    "currency",
    "channel",
    "country",
    "device_id",
    "model_version",
    "feature_status",
    "policy_version",
)
NUMBERS = ("event_time_ms", "amount_minor", "score", "challenger_gap", "propensity")


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """A column of texts: ``values`` (None for null) and, for each row, the place of its own. codes: int32, (n,)."""

    values: Sequence[str | None]
    codes: NDArray[np.int32]

    def objects(self, rows: slice) -> NDArray[Any]:
        """As the language takes texts: object, one a row."""
        found: NDArray[Any] = np.array(self.values, dtype=object)[self.codes[rows]]
        return found

    def holding(self, value: str) -> NDArray[np.bool_]:
        """Where the column holds ``value``."""
        return np.asarray(self.codes == (list(self.values).index(value) if value in self.values else -1))


@dataclass(frozen=True, slots=True, eq=False)
class Spelled:
    """A column of texts that are all different, as UTF-8 in one piece. start, length: int64, (n,)."""

    content: NDArray[np.uint8]
    start: NDArray[np.int64]
    length: NDArray[np.int64]

    def objects(self, rows: slice) -> NDArray[Any]:
        """As the language takes texts: object, one a row."""
        content, start, length = self.content, self.start[rows], self.length[rows]
        if not len(start):
            return np.zeros(0, object)
        first = int(start.min())
        piece = content[first : int((start + length).max())].tobytes()
        pairs = zip((start - first).tolist(), length.tolist(), strict=True)
        return np.array([piece[at : at + size].decode() for at, size in pairs], dtype=object)

    def chosen(self, rows: NDArray[np.bool_]) -> Spelled:
        """Only those rows."""
        return Spelled(self.content, self.start[rows], self.length[rows])


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """n recorded decisions; arrays of shape (n,) but for ``rows``.

    numbers: ``event_time_ms`` and ``amount_minor`` int64, the others float64. rows: float32, (n, f), the vectors in
    the order of ``feature_names``. action: uint8, place in ``ACTIONS``; wanted: the same before chance had its say.
    said: uint64, ``said_by`` of reasons and rules. rule_hits: the recorded rules' names, coded, and ``hit_rows`` the
    row of each. label: int8. partitions: how many the log has.
    """

    partition: NDArray[np.int32]
    offset: NDArray[np.int64]
    texts: Mapping[str, Coded]
    event_id: Spelled
    numbers: Mapping[str, NDArray[Any]]
    rows: NDArray[np.float32]
    action: NDArray[np.uint8]
    wanted: NDArray[np.uint8]
    said: NDArray[np.uint64]
    rule_hits: Coded
    hit_rows: NDArray[np.int64]
    label: NDArray[np.int8]
    feature_names: Sequence[str]
    partitions: int

    def __len__(self) -> int:
        return len(self.offset)

    def amounts(self) -> NDArray[np.float64]:
        """Amounts in major units."""
        units = np.array([10.0 ** EXPONENTS[code or "EUR"] for code in self.texts["currency"].values])
        scaled: NDArray[np.float64] = self.numbers["amount_minor"] / units[self.texts["currency"].codes]
        return scaled

    def columns(self, reads: frozenset[str], rows: slice) -> dict[str, NDArray[Any]]:
        """Columns for ``Policy``, as ``columns_of`` builds them from live events."""
        vectors = self.rows[rows]
        places = {name: place for place, name in enumerate(self.feature_names)}
        found: dict[str, NDArray[Any]] = {}
        for name in reads:
            if name == "amount":
                units = [10 ** EXPONENTS[code or "EUR"] for code in self.texts["currency"].values]
                currency = np.array(units, np.int64)[self.texts["currency"].codes[rows]]
                found[name] = self.numbers["amount_minor"][rows] / currency
            elif name == "missing_features":
                found[name] = np.isnan(vectors).sum(axis=1).astype(np.float64)
            elif name in self.numbers:
                found[name] = self.numbers[name][rows]
            elif name == "event_id":
                found[name] = self.event_id.objects(rows)
            elif name in self.texts:
                found[name] = self.texts[name].objects(rows)
            else:
                found[name] = vectors[:, places[name]]
        return found

    def kept(self, chosen: NDArray[np.bool_]) -> History:
        """Only the chosen rows."""
        moved = np.cumsum(chosen) - 1
        hits = chosen[self.hit_rows]
        return History(
            self.partition[chosen],
            self.offset[chosen],
            {name: Coded(text.values, text.codes[chosen]) for name, text in self.texts.items()},
            self.event_id.chosen(chosen),
            {name: number[chosen] for name, number in self.numbers.items()},
            self.rows[chosen],
            self.action[chosen],
            self.wanted[chosen],
            self.said[chosen],
            Coded(self.rule_hits.values, self.rule_hits.codes[hits]),
            moved[self.hit_rows[hits]],
            self.label[chosen],
            self.feature_names,
            self.partitions,
        )


def said_by(texts: Sequence[str]) -> int:
    """One number for an ordered list of texts: what ``said_of`` gives for a row that holds them."""
    content = "".join(texts).encode()
    lengths = np.array([len(text.encode()) for text in texts], np.int64)
    spans = Spans(np.cumsum(lengths) - lengths, lengths)
    prints = fingerprints(np.frombuffer(content + b"\0", np.uint8), spans)
    return int(said_of(prints, np.zeros(len(texts), np.int64), 1)[0])


def said_of(prints: NDArray[np.uint64], owners: NDArray[np.int64], rows: int) -> NDArray[np.uint64]:
    """One number a row for its texts in order: uint64, (rows,).

    prints: the fingerprint of each text; owners: the row of each, rising.
    """
    starts = np.searchsorted(owners, owners)  # where the first text of the same row lies
    place = (np.arange(len(owners)) - starts).astype(np.uint64)
    mixed = (prints + place * np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(29)
    sums = np.zeros(rows, np.uint64)
    np.add.at(sums, owners, mixed)
    return sums


def label_weights(history: History, every_label: bool) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """How much each row counts where outcomes are asked for (0: not at all), and which rows are blocked and unseen.

    An event that was declined shows no outcome of its own; one that was let through by chance stands for all that were
    not, with 1 / propensity (Horvitz and Thompson 1952, https://www.jstor.org/stable/2280784). A label that a declined
    event has all the same is left out, unless ``every_label`` says that labels don't depend on what was decided.
    """
    labelled = history.label != UNKNOWN
    if every_label:
        return labelled.astype(np.float64), ~labelled
    declined = history.action == ACTIONS.index("decline")
    weights = np.where(labelled & ~declined, 1.0 / history.numbers["propensity"], 0.0)
    return weights, declined & (history.numbers["propensity"] >= 1.0)

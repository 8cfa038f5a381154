"""What may be learned from, seen from one moment: recorded vectors, joined with the labels known by then.

    ──────── train ────────┤──── label delay ────┤─── validation ───┤──── label delay ────┤ cut-off
                           train end             validation start    validation end

The model under validation is built exactly as it would have been built at the validation's start: from events at least
one label delay old, with the labels observed by then. The model that serves is built by the same rule at the cut-off,
so what validation measured is the procedure that is used. Younger events are learned from where somebody has observed
what they were (an analyst, a customer); where nobody has, they are unknown, never genuine. They are not judged by: only
some are observed so early, and reviewers look where the score is high. Judged are events of one age alone.

Learned from are the last weeks only (``Horizon.learn_ms``). A recorded vector means what it meant on its day: how much
was known of a terminal depends on whom the model of that day sent to the analysts, and windows that reached back beyond
the start of the log were not full. What was recorded under former models teaches habits that the loop has since
changed. Where fraud is rare the memory is longer: below a thousand frauds chance costs more than age.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.mesh.errors import Fatal, WeirError
from services.mesh.topics import DAY_MS

GENUINE, FRAUD, UNKNOWN = 0, 1, -1
# Four whole weeks: every weekday alike, and no older than the longest window of a feature.
LEARN_MS = 28 * DAY_MS
NEVER_MS = np.iinfo(np.int64).max  # observed_ms of a label that is not there


class TrainingRefused(WeirError):
    """No model can be learned from this; the one in force stays. The message says what is missing."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recorded:
    """Vectors as they were served, one event a row, with the last known label of each event.

    rows: float32, shape (n, f), NaN = missing, columns in feature set order. event_time_ms: int64, shape (n,). label:
    int8, shape (n,), FRAUD, GENUINE or UNKNOWN. observed_ms: int64, shape (n,), when the label became known (any value
    where it is UNKNOWN). exact: bool, shape (n,), false where ``feature_status`` was stale or fallback: there only the
    event's own columns say what they mean.
    """

    rows: npt.NDArray[np.float32]
    event_time_ms: npt.NDArray[np.int64]
    label: npt.NDArray[np.int8]
    observed_ms: npt.NDArray[np.int64]
    exact: npt.NDArray[np.bool_]
    weight: npt.NDArray[np.float32]
    held_out: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        assert self.rows.ndim == 2, f"rows of shape {self.rows.shape}, (n, f) expected"
        assert self.rows.dtype == np.float32, f"rows of {self.rows.dtype}, float32 expected"
        for name in ("event_time_ms", "label", "observed_ms", "exact", "weight", "held_out"):
            assert len(getattr(self, name)) == len(self.rows), f"{name} has another length than rows"
        if (infinite := np.argwhere(np.isinf(self.rows))).size:
            row, column = infinite[0].tolist()
            raise TrainingRefused(f"rows[{row}, {column}]={self.rows[row, column]}: vectors must be finite or missing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """How labels mature and how much of the past is set aside."""

    label_delay_ms: int  # the age at which events are judged by; younger ones are learned from where observed
    validation_ms: int  # length of the validation part
    # Age from which an event without any label counts as genuine; None: never, only observed labels are learned from.
    genuine_after_ms: int | None
    rows_min: int = 1_000  # in each part
    frauds_min: int = 30  # in each part: fewer say nothing about the order of scores (AP moves by 0.1 between draws)
    # Learned from are so many days of events behind the label delay, and whoever is younger and observed; and as many
    # days more as it takes to have so many frauds.
    learn_ms: int = LEARN_MS
    learn_frauds: int = 1_000

    def __post_init__(self) -> None:
        for name, least in (
            ("label_delay_ms", 0),
            ("validation_ms", 1),
            ("rows_min", 2),
            ("frauds_min", 1),
            ("learn_ms", 1),
            ("learn_frauds", 0),
        ):
            if getattr(self, name) < least:
                raise Fatal(f"{name}={getattr(self, name)}: must be >= {least}; see the training command's --help")
        if self.genuine_after_ms is not None and self.genuine_after_ms < 0:
            raise Fatal(f"genuine_after_ms={self.genuine_after_ms}: must be >= 0, or None for observed labels only")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """Rows to learn from or to judge by. index: intp, shape (m,), into `Recorded`; fraud: bool, shape (m,)."""

    index: npt.NDArray[np.intp]
    fraud: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """The three cohorts of one training."""

    train: Part  # as known at the validation's start
    validation: Part  # as known at the cut-off
    whole: Part  # as known at the cut-off, everything old enough: what the serving model learns from
    validation_start_ms: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Joined:
    """Labels aligned with vectors; ``orphans`` counts labels of events that are not among them."""

    label: npt.NDArray[np.int8]
    observed_ms: npt.NDArray[np.int64]
    orphans: int


def join(
    identities: Sequence[str],
    label_identities: Sequence[str],
    fraud: npt.NDArray[np.bool_],
    observed_ms: npt.NDArray[np.int64],
) -> Joined:
    """Give each vector its last label. identities: of the n vectors, distinct; the other three: one entry a label.

    Of several labels of one event the one observed last counts, of equals the later in the log: a reversal reverses.
    """
    place = {identity: row for row, identity in enumerate(identities)}
    if len(place) != len(identities):
        raise TrainingRefused(f"{len(identities) - len(place)} vectors repeat an event; each event has one vector")
    label = np.full(len(identities), UNKNOWN, dtype=np.int8)
    known_ms = np.full(len(identities), NEVER_MS, dtype=np.int64)
    orphans = 0
    for entry in np.argsort(observed_ms, kind="stable").tolist():
        row = place.get(label_identities[entry])
        if row is None:
            orphans += 1
            continue
        label[row] = FRAUD if fraud[entry] else GENUINE
        known_ms[row] = observed_ms[entry]
    return Joined(label=label, observed_ms=known_ms, orphans=orphans)


def labels_as_of(recorded: Recorded, now_ms: int, genuine_after_ms: int | None) -> npt.NDArray[np.int8]:
    """What was known at ``now_ms``: observed labels, then genuine by age, else UNKNOWN. Returns int8, shape (n,)."""
    known = (recorded.label != UNKNOWN) & (recorded.observed_ms <= now_ms)
    labels = np.where(known, recorded.label, UNKNOWN).astype(np.int8)
    if genuine_after_ms is not None:
        labels[~known & (recorded.event_time_ms <= now_ms - genuine_after_ms)] = GENUINE
    return labels


def split(recorded: Recorded, cut_off_ms: int, horizon: Horizon) -> Split:
    """The cohorts of a training at ``cut_off_ms``. Raises `TrainingRefused` naming the part that is too small."""
    validation_end_ms = cut_off_ms - horizon.label_delay_ms
    validation_start_ms = validation_end_ms - horizon.validation_ms
    train = _cohort(recorded, validation_start_ms, horizon)
    whole = _cohort(recorded, cut_off_ms, horizon)
    times = recorded.event_time_ms[whole.index]
    recent = (times > validation_start_ms) & (times <= validation_end_ms)
    validation = Part(index=whole.index[recent], fraud=whole.fraud[recent])
    for name, part in (("train", train), ("validation", validation)):
        _check_size(name, part, recorded, horizon)
    return Split(train=train, validation=validation, whole=whole, validation_start_ms=validation_start_ms)


def newest(recorded: Recorded, part: Part, after_ms: int, frauds: int) -> Part:
    """Events of ``part`` after ``after_ms``, and from its ``frauds``-th newest fraud on; all when it has fewer."""
    times = recorded.event_time_ms[part.index]
    fraud_times = np.sort(times[part.fraud])
    if len(fraud_times) < frauds:
        return part
    kept = times > after_ms
    if frauds:
        kept |= times >= fraud_times[-frauds]
    return Part(index=part.index[kept], fraud=part.fraud[kept])


def canonical_order(recorded: Recorded, part: Part) -> Part:
    """``part`` by event time, then label, then vector: the order in which rows arrived leaves no trace."""
    times = recorded.event_time_ms[part.index]
    order = np.argsort(times, kind="stable")
    # Few events share a millisecond, and only among those does anything else decide.
    same = np.diff(times[order]) == 0
    tied = np.flatnonzero(np.append(same, False) | np.insert(same, 0, False))
    rows = part.index[order[tied]]
    # Bits, not values: NaN has no place in an order of values.
    bits = recorded.rows[rows].view(np.int32)
    columns = tuple(bits[:, column] for column in reversed(range(bits.shape[1])))
    keys = (
        *columns,
        recorded.weight[rows],
        recorded.exact[rows],
        part.fraud[order[tied]],
        recorded.event_time_ms[rows],
    )
    order[tied] = order[tied][np.lexsort(keys)]
    return Part(index=part.index[order], fraud=part.fraud[order])


def data_hash(recorded: Recorded, part: Part, feature_set: str) -> str:
    """sha256 (hex) of what was learned from: feature set, times, labels, exactness, vectors, in canonical order."""
    part = canonical_order(recorded, part)
    digest = hashlib.sha256(b"weir/training-data/v2\x00" + feature_set.encode("utf-8") + b"\x00")
    digest.update(np.array([len(part.index), recorded.rows.shape[1]], dtype="<i8").tobytes())
    digest.update(recorded.event_time_ms[part.index].astype("<i8").tobytes())
    digest.update(part.fraud.astype(np.uint8).tobytes())
    digest.update(recorded.exact[part.index].astype(np.uint8).tobytes())
    digest.update(recorded.weight[part.index].astype("<f4").tobytes())
    digest.update(np.ascontiguousarray(recorded.rows[part.index], dtype="<f4").tobytes())
    return digest.hexdigest()


def _cohort(recorded: Recorded, now_ms: int, horizon: Horizon) -> Part:
    """Events of the last weeks whose label was known at ``now_ms``; young ones too, unless they are held out."""
    labels = labels_as_of(recorded, now_ms, horizon.genuine_after_ms)
    matured_ms = now_ms - horizon.label_delay_ms
    is_open = ~recorded.held_out | (recorded.event_time_ms <= matured_ms)
    index = np.flatnonzero((labels != UNKNOWN) & (recorded.event_time_ms <= now_ms) & is_open)
    part = Part(index=index, fraud=labels[index] == FRAUD)
    # The validation part is cut out of what is learned from, so it has to be in it.
    return newest(recorded, part, matured_ms - max(horizon.learn_ms, horizon.validation_ms), horizon.learn_frauds)


def _check_size(name: str, part: Part, recorded: Recorded, horizon: Horizon) -> None:
    """Counted among exact vectors: the others teach the fallback model alone."""
    exact = recorded.exact[part.index]
    rows, frauds = int(exact.sum()), int((part.fraud & exact).sum())
    if rows < horizon.rows_min or frauds < horizon.frauds_min:
        raise TrainingRefused(
            f"{name} part has {rows} labelled rows and {frauds} frauds, at least {horizon.rows_min} and "
            f"{horizon.frauds_min} are needed; wait until more labels have matured"
        )
    if frauds == rows:
        raise TrainingRefused(f"{name} part has {rows} rows and all are fraud; genuine events are needed too")

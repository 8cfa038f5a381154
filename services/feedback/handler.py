"""Feedback's thinking: decisions and outcomes in, labels, orphans and the terminal's label updates out."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Final

from services.feedback.archive import Archive, Unusable, begin_anew, open_archive
from services.feedback.filling import Filling, Inputs, Read, Written, follow
from services.feedback.joiner import Joiner
from services.feedback.labelling import Labelling, Made
from services.feedback.settings import FeedbackSettings
from services.mesh.errors import Fatal, Poison, Transient
from services.mesh.ports import LANE, Clock, CommittedOffset, InRecord
from services.mesh.stage import Emit, dead_letter
from services.mesh.telemetry import StageTelemetry
from services.mesh.topology import FEEDBACK
from services.mesh.watermark import Marks

# Filling a file holds up polling, for which the broker's patience is 120 s. Then a new session goes on where it was.
FILL_S_MAX: Final = 60.0


class FeedbackHandler:
    """Implements ``services.mesh.stage.Handler`` for two inputs; a partition is worked on once both have been assigned.

    ``log``: names the log that files belong to. ``read``: committed records of an input partition, by its number.
    """

    def __init__(
        self,
        settings: FeedbackSettings,
        *,
        log: str,
        read: Read,
        labels: Written,
        orphans: Written,
        clock: Clock,
        telemetry: StageTelemetry,
    ) -> None:
        self._settings = settings
        self._log = log
        self._read = read
        self._labels, self._orphans = labels, orphans
        self._clock = clock
        self._telemetry = telemetry
        self._labelling = Labelling()
        self._inputs: dict[int, CommittedOffset] = {}  # by number
        self._joiners: dict[int, Joiner] = {}  # by partition
        self._filled_s = 0.0  # since this session began

    def assign(self, partition: int, committed: CommittedOffset, marks: Marks) -> None:
        """The second of a pair brings the file to where the group stands."""
        self._inputs[partition] = committed
        pair = partition % LANE
        if pair in self._inputs and LANE + pair in self._inputs:
            inputs = Inputs(self._inputs[pair], self._inputs[LANE + pair])
            began_s = self._clock.monotonic_s()
            self._joiners[pair] = self._open(pair, inputs, began_s - self._filled_s)
            self._filled_s += self._clock.monotonic_s() - began_s

    def revoke(self, partition: int) -> None:
        """Stop owning ``partition``; whoever is next reads what the file does not have."""
        self._inputs.pop(partition, None)
        joiner = self._joiners.pop(partition % LANE, None)
        if joiner is not None:
            joiner.archive.close()

    def step(self, batch: Sequence[InRecord]) -> list[Emit]:
        """See ``Handler``."""
        try:
            return self._step(batch)
        except Unusable as unusable:
            raise self._broken(unusable, {record.partition % LANE for record in batch}) from unusable

    def committed(self, offsets: dict[int, CommittedOffset]) -> None:
        """See ``Handler``: what the step did to the files stays."""
        touched = {number % LANE for number in offsets}
        self._inputs.update(offsets)
        try:
            for partition in touched:
                archive = self._joiners[partition].archive
                follow(archive.place, Inputs(self._inputs[partition], self._inputs[LANE + partition]))
                archive.commit()
        except Unusable as unusable:
            raise self._broken(unusable, touched) from unusable
        self._count()

    def idle(self) -> None:
        """Nothing to do: files are as the log is."""

    def close(self) -> None:
        """Let go of the files; the handler is used no more."""
        for joiner in self._joiners.values():
            joiner.archive.close()
        self._joiners.clear()

    def _step(self, batch: Sequence[InRecord]) -> list[Emit]:
        emits: list[Emit] = []
        latest: dict[int, int] = {}  # partition -> its latest decision in the batch, which moves the clock
        for source, record in enumerate(batch):
            joiner = self._joiner_of(record)
            try:
                if record.partition >= LANE:
                    outcome = self._labelling.outcome(record.value)
                    made = joiner.observe(record.offset, record.value or b"", outcome)
                else:
                    made = joiner.decide(record.offset, record.append_time_ms, record.value or b"")
                    latest[record.partition] = source
            except Poison as poison:
                emits.append(dead_letter(record, source, FEEDBACK.name, poison))
                continue
            emits += _emits(made, source)
        for partition, source in latest.items():
            emits += _emits(self._joiners[partition].due(), source)
        emits.sort(key=lambda emit: emit.source)
        return emits

    def _joiner_of(self, record: InRecord) -> Joiner:
        joiner = self._joiners.get(record.partition % LANE)
        if joiner is None:
            names = " and ".join(topic.name for topic in FEEDBACK.inputs)
            raise Fatal(
                f"{record.topic}[{record.partition % LANE}] came without its twin; {names} must have the same number "
                "of partitions: see `weir status`, and create the topics with the deploy step"
            )
        return joiner

    def _open(self, partition: int, inputs: Inputs, began_s: float) -> Joiner:
        settings = self._settings
        archive, trouble = open_archive(settings.directory, partition, self._log, settings.cache_bytes)
        if trouble:
            logging.warning("feedback: %s; a new file is filled from the log", trouble)
        try:
            return self._filled(partition, archive, inputs, began_s)
        except Unusable as unusable:
            logging.warning("feedback: %s; a new file is filled from the log", unusable)
            archive.close()
            archive = begin_anew(settings.directory, partition, self._log, settings.cache_bytes)
            return self._filled(partition, archive, inputs, began_s)

    def _filled(self, partition: int, archive: Archive, inputs: Inputs, began_s: float) -> Joiner:
        def alive(records: int) -> None:
            self._telemetry.alive()
            if self._clock.monotonic_s() - began_s > FILL_S_MAX:
                raise Transient(f"partition {partition}: {records:,} records are back in its file, going on with it")

        rules = self._settings.rules
        filling = Filling(partition, archive, rules, self._labelling, alive)
        try:
            filling.fill(self._read, self._labels, self._orphans, inputs)
        except BaseException:
            archive.close()
            raise
        self._telemetry.metrics.add("weir_replayed", filling.records)
        if filling.records:
            logging.info("feedback: partition %d: %d records read into its file", partition, filling.records)
        return Joiner(partition, archive, rules, self._labelling)

    def _broken(self, unusable: Unusable, partitions: set[int]) -> Transient:
        """Files that turned out damaged are begun anew; the next session fills them."""
        for partition in partitions:
            joiner = self._joiners.pop(partition, None)
            if joiner is not None and str(joiner.archive.path) in str(unusable):
                joiner.archive.close()
                begin_anew(self._settings.directory, partition, self._log, self._settings.cache_bytes).close()
        return Transient(f"{unusable}; a new file is filled from the log")

    def _count(self) -> None:
        metrics = self._telemetry.metrics
        labels: Counter[str] = Counter()
        orphans: Counter[str] = Counter()
        repeats = 0
        for joiner in self._joiners.values():
            labels["observed"] += joiner.joined
            labels["matured"] += joiner.matured
            orphans.update(joiner.orphans)
            repeats += joiner.repeats
            joiner.joined = joiner.matured = joiner.repeats = 0
            joiner.orphans.clear()
        metrics.add_all("weir_labels", labels)
        metrics.add_all("weir_orphans", orphans)
        if repeats:
            metrics.add("weir_duplicates", repeats)
        metrics.set("weir_outcomes_waiting", sum(joiner.waiting for joiner in self._joiners.values()))


def _emits(made: Sequence[Made], source: int) -> list[Emit]:
    return [Emit(one.topic, one.key, one.value, one.partition, source, one.headers) for one in made]

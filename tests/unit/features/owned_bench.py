"""The customer view's stage on twins, driven as the runtime drives it, and a healthy one to compare it with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from random import Random

from services.features.definitions import FeatureSet, load_feature_set
from services.features.handler import FeaturesHandler
from services.features.layout import pack, unpack
from services.features.settings import FeaturesSettings
from services.features.views import adapter_of
from services.mesh.adapters.memory import ManualClock, MemoryBroker, MemoryLog, MemoryRedis, MemoryStore
from services.mesh.codec import Codec
from services.mesh.errors import StoreUnreachable
from services.mesh.headers import WEIR, Hop, pack_hop
from services.mesh.ports import CommittedOffset, InRecord, StateStore, StoreStep
from services.mesh.stage import Emit
from services.mesh.telemetry import StageTelemetry
from services.mesh.watermark import Marks

FEATURES_TEXT = files("schemas").joinpath("payments/features.yaml").read_text()
FEATURES = load_feature_set(FEATURES_TEXT, "features.yaml")
OTHER_FEATURES = load_feature_set(FEATURES_TEXT.replace("30d]", "29d]"), "features.yaml")
EVENT, UPDATE = Codec("payments/event.v1.avsc"), Codec("terminal_update.v1.avsc")
START_MS = 1_600_000_000_000
WAIT_MS = 2_000


class CountedStore(MemoryStore):
    """Counts calls, takes its time when it is away, and can lose one answer."""

    calls = 0
    loses_answers = 0
    clock: ManualClock

    def _check_reachable(self) -> None:
        self.calls += 1
        if not self._redis.reachable:
            self.clock.advance_ms(500)
        super()._check_reachable()

    def save(self, steps: Sequence[StoreStep]) -> None:
        super().save(steps)
        if self.loses_answers:
            self.loses_answers -= 1
            raise StoreUnreachable("no answer")


class Bench:
    """The customer view's stage on twins; its log, and processes that own all of it in turn."""

    make_store: Callable[[], StateStore] | None = None  # None: the twin

    def __init__(self, partitions: int = 1, entities_max: int = 1_000, wait_ms_max: int = WAIT_MS) -> None:
        self.clock = ManualClock()
        self.broker = MemoryBroker(partitions, self.clock)
        self.redis = MemoryRedis()
        self.partitions = partitions
        self.settings = FeaturesSettings(
            view="customer",
            redis="",
            entities_max=entities_max,
            feature_wait_ms_max=wait_ms_max,
            partitions_expected=partitions,
        )
        self.random = Random(1)
        self.made = 0
        self.committed = dict.fromkeys(range(partitions), CommittedOffset(0, ""))
        self.marks = {partition: Marks() for partition in range(partitions)}

    def process(
        self,
        read: Callable[[int, int, int], Iterator[list[InRecord]]] | None = None,
        features: FeatureSet = FEATURES,
    ) -> Process:
        """A new owner of every partition."""
        return Process(self, read, features)

    def feed(self, *customers: str, partition: int = 0) -> list[InRecord]:
        """One payment of each customer."""
        return [self._payment(customer, partition) for customer in customers]

    def reference(self) -> dict[tuple[int, int], bytes | None]:
        """What every event of the log should lead to: place -> value."""
        return Bench.replay(self)

    @staticmethod
    def replay(bench: Bench) -> dict[tuple[int, int], bytes | None]:
        healthy = Bench(bench.partitions)
        healthy.broker.records = bench.broker.records
        process = healthy.process()
        found = {}
        for records in bench.broker.records.values():
            for emit, record in zip(process.take(records), records, strict=True):
                found[record.partition, record.offset] = emit.value
        return found

    def stored(self) -> dict[tuple[int, str], bytes]:
        """The store's entities in a form that does not depend on how they were written."""
        view = FEATURES.view("customer")
        return {where: pack(unpack(view, value)) for where, value in self.redis.values.items()}

    def _payment(self, customer: str, partition: int) -> InRecord:
        self.made += 1
        event = {
            "event_id": f"e{self.made}",
            "customer_id": customer,
            "terminal_id": "t",
            "event_time_ms": START_MS + self.made * 60_000 - self.random.choice((0, 0, 0, 3_600_000)),
            "amount_minor": self.random.randrange(10_000),
            "currency": "EUR",
            "channel": None,
            "country": None,
            "device_id": None,
            "source_partition": partition,
            "source_offset": self.made,
            "raw_append_time_ms": 1,
        }
        header = pack_hop(Hop(partition, self.made, partition, self.made, 0))
        return self.broker.produce("events.v1", customer.encode(), EVENT.encode(event), partition, [(WEIR, header)])


class Process:
    """One handler, driven as the runtime drives it."""

    def __init__(
        self, bench: Bench, read: Callable[[int, int, int], Iterator[list[InRecord]]] | None, features: FeatureSet
    ) -> None:
        self.bench = bench
        self.store = CountedStore(bench.redis, bench.clock)
        self.store.clock = bench.clock
        self.telemetry = StageTelemetry("features-customer", bench.clock)
        log = MemoryLog(bench.broker, "features-customer", "events.v1")
        self.handler = FeaturesHandler(
            "features-customer",
            adapter_of("customer", features),
            bench.make_store() if bench.make_store else self.store,
            read or log.read,
            bench.clock,
            self.telemetry,
            bench.settings,
        )
        for partition, committed in bench.committed.items():
            self.handler.assign(partition, committed, bench.marks[partition].copy())

    def take(self, records: Sequence[InRecord]) -> list[Emit]:
        """Step, commit, save, as one turn does; without ``idle``."""
        emits = self.handler.step(records)
        self.commit(records)
        return emits

    def commit(self, records: Sequence[InRecord]) -> None:
        """The broker took the batch of ``records``."""
        bench = self.bench
        offsets = {}
        for record in records:
            marks = bench.marks[record.partition]
            assert marks.admit(Hop(0, 0, record.partition, int(EVENT.decode(record.value)["event_id"][1:]), 0))
            offsets[record.partition] = CommittedOffset(record.offset + 1, marks.to_metadata())
        bench.committed.update(offsets)
        self.handler.committed(offsets)

    def catch_up(self) -> None:
        """Idle until every partition is ready."""
        for _ in range(1_000):
            if self.phases() == {"ready"}:
                return
            self.handler.idle()
            self.bench.clock.advance_ms(100)
        raise AssertionError(self.phases())

    def phases(self) -> set[str]:
        return {owned.phase for owned in self.handler._owned.values()}

    def replayed(self) -> int:
        return sum(owned.replayed for owned in self.handler._owned.values())


def statuses(emits: Sequence[Emit]) -> list[str]:
    return [UPDATE.decode(emit.value)["update"]["customer_status"] for emit in emits]


def check_exact(bench: Bench, records: Sequence[InRecord], emits: Sequence[Emit]) -> None:
    """``emits`` are what a healthy process would have said."""
    reference = bench.reference()
    for emit, record in zip(emits, records, strict=True):
        assert emit.value == reference[record.partition, record.offset], (record.partition, record.offset)


def check_stored(bench: Bench) -> None:
    """The store is as a rebuild from the log leaves it."""
    rebuilt = Bench(bench.partitions)
    rebuilt.broker.records = bench.broker.records
    rebuilt.committed = dict(bench.committed)
    rebuilt.process().catch_up()
    assert bench.stored() == rebuilt.stored()
    assert {p: mark.offset for p, mark in bench.redis.marks.items()} == {
        p: committed.offset for p, committed in bench.committed.items()
    }

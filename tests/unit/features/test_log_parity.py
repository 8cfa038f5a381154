"""Parity from the log: equal where the stages served what the log says, and every way of not doing so is named."""

from __future__ import annotations

import random
from importlib.resources import files
from typing import NamedTuple

import pytest

from services.features.declared import DECLARED
from services.features.definitions import FeatureSet, load_feature_set
from services.features.parity import Parity, ParitySettings
from services.features.state import EntityState
from services.features.views import CustomerView, TerminalView
from services.mesh.codec import Codec
from services.mesh.headers import LANE, Hop
from services.mesh.ports import InRecord

FEATURES_TEXT = files("schemas").joinpath(DECLARED).read_text()
FEATURES = load_feature_set(FEATURES_TEXT, DECLARED)
SQUEEZED = load_feature_set(FEATURES_TEXT.replace("memory: 1G", "memory: 1k"), DECLARED)
HOUR_MS = 3_600_000
START_MS = 1_522_540_800_000


class Record(NamedTuple):
    """A record as parity is handed it."""

    place: tuple[int, int]
    key: bytes
    value: bytes
    hop: Hop


class Served(NamedTuple):
    """What a run left in the three topics."""

    events: list[Record]
    updates: list[Record]
    features: list[Record]


def serve(count: int = 120, late_every: int = 0, features: FeatureSet = FEATURES) -> Served:
    """Two partitions of events through both views, as the stages would, with a label now and then."""
    chance = random.Random(3)
    customers, terminals = CustomerView(features), TerminalView(features)
    customers_full = [customers.view.new_occupancy(2) for _ in range(2)]
    terminals_full = terminals.view.new_occupancy(2)
    customer_states: dict[bytes, EntityState] = {}
    terminal_states: dict[bytes, EntityState] = {}
    served = Served([], [], [])
    event_codec, update_codec = Codec("payments/event.v1.avsc"), Codec("terminal_update.v1.avsc")
    for number in range(count):
        name, partition = f"c{number % 5}", number % 2
        late_ms = 40 * 24 * HOUR_MS if late_every and number % late_every == late_every - 1 else 0
        event = {
            "event_id": f"e{number}",
            "customer_id": name,
            "terminal_id": f"t{chance.randrange(3)}",
            "event_time_ms": START_MS + number * HOUR_MS - late_ms,
            "amount_minor": chance.randrange(1, 10_000),
            "currency": "EUR",
            "channel": None,
            "country": None,
            "device_id": None,
            "source_partition": partition,
            "source_offset": number,
            "raw_append_time_ms": number,
        }
        key, terminal = name.encode(), str(event["terminal_id"]).encode()
        record = Record(
            (partition, number), key, event_codec.encode(event), Hop(partition, number, partition, number, 0)
        )
        served.events.append(record)
        state = customer_states.setdefault(key, customers.view.new_state())
        emit, _ = customers.apply(state, in_record("events.v1", record), 0, customers_full[partition])
        assert emit is not None
        update = Record((0, 2 * number), terminal, emit.value or b"", Hop(partition, number, partition, number, 0))
        served.updates.append(update)
        terminal_state = terminal_states.setdefault(terminal, terminals.view.new_state())
        emit, _ = terminals.apply(terminal_state, in_record("updates.terminal.v1", update), 0, terminals_full)
        assert emit is not None
        served.features.append(
            Record((partition, number), key, emit.value or b"", Hop(partition, number, 0, 2 * number, 0))
        )
        if number % 7 == 0:
            label = {
                "event_id": event["event_id"],
                "customer_id": name,
                "terminal_id": event["terminal_id"],
                "event_time_ms": event["event_time_ms"],
                "label": "fraud" if number % 2 else "genuine",
                "label_version": 1,
                "observed_time_ms": 0,
            }
            value = update_codec.encode({"update": ("weir.LabelUpdate", label)})
            labelled = Record((0, 2 * number + 1), terminal, value, Hop(0, 0, LANE + partition, number, 0))
            served.updates.append(labelled)
            terminals.absorb(terminal_state, in_record("updates.terminal.v1", labelled))
    return served


def in_record(topic: str, record: Record) -> InRecord:
    return InRecord(topic, record.place[0], record.place[1], 0, record.key, record.value, ())


OTHER = load_feature_set(FEATURES_TEXT.replace("windows: [5m,", "windows: [7h,"), DECLARED)


def walk(
    served: Served, settings: ParitySettings | None = None, seed: int = 0, features: FeatureSet = FEATURES
) -> Parity:
    """Feed the three topics, interleaved at random, each partition in order."""
    parity, chance = Parity(features, settings or ParitySettings(partitions=2)), random.Random(seed)
    lanes = [list(served.events), list(served.updates), list(served.features)]
    while any(lanes):
        lane = chance.choice([lane for lane in lanes if lane])
        record = lane.pop(0)
        if lane is lanes[0]:
            parity.event(*record)
        elif lane is lanes[1]:
            parity.update(*record)
        else:
            parity.features(record.place, record.value, record.hop)
    return parity


def flipped(record: Record, byte: int) -> Record:
    value = bytearray(record.value)
    value[byte] ^= 1
    return record._replace(value=bytes(value))


@pytest.mark.parametrize("seed", range(3))
def test_what_was_served_right_is_equal_in_any_interleaving(seed: int) -> None:
    parity = walk(serve(), seed=seed)
    for report in parity.reports.values():
        assert (report.compared, report.mismatches, dict(report.by_status)) == (120, 0, {"ok": 120})
    assert parity.left() == {"customer": (0, 0), "terminal": (0, 0)}


def test_one_bit_of_the_last_terminal_feature_is_found_and_named() -> None:
    served = serve()
    served.features[77] = flipped(served.features[77], -4)
    parity = walk(served)
    assert parity.reports["customer"].mismatches == 0
    report = parity.reports["terminal"]
    assert (report.compared, report.mismatches) == (120, 1)
    assert report.first is not None
    assert (report.first.event_id, report.first.customer_id) == ("e77", "c2")
    assert (report.first.partition, report.first.offset) == (1, 77)
    assert report.first.feature == FEATURES.names[-1]
    assert report.first.served != report.first.recomputed


def test_a_wrong_customer_vector_is_the_customers_mismatch_alone() -> None:
    """The terminal's view was handed it, so what it served follows from its own input."""
    served = serve()
    at = next(n for n, record in enumerate(served.updates) if record.place == (0, 2 * 50))
    width = 4 * FEATURES.view("customer").count
    served.updates[at] = flipped(served.updates[at], -width)
    wrong = served.updates[at].value[-width:]
    whole = served.features[50]
    begin = len(whole.value) - 4 * len(FEATURES.names)
    value = whole.value[:begin] + wrong + whole.value[begin + width :]
    served.features[50] = whole._replace(value=value)
    parity = walk(served)
    first = parity.reports["customer"].first
    assert first is not None
    assert (parity.reports["customer"].mismatches, first.feature, first.event_id) == (1, "amount", "e50")
    assert parity.reports["terminal"].mismatches == 0


def test_an_event_that_was_skipped_shows_in_all_that_followed_it() -> None:
    served = serve()
    del served.events[10]
    parity = walk(served)
    assert parity.reports["customer"].mismatches > 0  # its customer's later windows lack it
    assert parity.left()["customer"] == (0, 1)  # and it was served without being in the log


def test_an_event_applied_twice_by_the_log_counts_once_as_the_watermark_has_it() -> None:
    served = serve()
    served.events.insert(12, served.events[10]._replace(place=(0, 11)))
    assert walk(served).reports["customer"].mismatches == 0


def test_what_is_not_served_yet_is_counted_and_no_mismatch() -> None:
    served = serve()
    parity = walk(Served(served.events, served.updates[:-20], served.features[:60]))
    assert all(report.mismatches == 0 for report in parity.reports.values())
    assert parity.left()["customer"][0] > 0
    assert parity.left()["terminal"][0] > 0
    assert [left[1] for left in parity.left().values()] == [0, 0]


def test_stale_vectors_are_left_out_and_still_count_for_state() -> None:
    parity = walk(serve(late_every=30))
    report = parity.reports["customer"]
    assert report.excluded == {"stale": 4}
    assert (report.compared, report.mismatches) == (116, 0)


def test_a_sample_follows_whole_entities() -> None:
    served = serve()
    parity = walk(served, ParitySettings(partitions=2, sample=2))
    assert 0 < parity.reports["customer"].compared < 120
    assert all(report.mismatches == 0 for report in parity.reports.values())
    assert parity.left() == {"customer": (0, 0), "terminal": (0, 0)}


@pytest.mark.parametrize("sample", [1, 2])
def test_where_memory_is_full_the_events_of_all_decide_what_is_folded(sample: int) -> None:
    served = serve(400, features=SQUEEZED)
    parity = walk(served, ParitySettings(partitions=2, sample=sample), features=SQUEEZED)
    assert all(report.mismatches == 0 for report in parity.reports.values())
    assert sum(report.by_status["saturated"] for report in parity.reports.values()) > 40
    roomier = walk(served, ParitySettings(partitions=1, sample=sample), features=SQUEEZED)
    assert any(report.mismatches for report in roomier.reports.values())


def test_nothing_is_compared_before_the_offset_asked_for() -> None:
    served = serve()
    served.updates[3] = flipped(served.updates[3], -1)
    report = walk(served, ParitySettings(partitions=2, compare_from=100)).reports["customer"]
    assert (report.compared, report.mismatches) == (20, 0)


def test_where_the_log_lost_its_start_only_whole_windows_are_compared() -> None:
    cut = {"customer": frozenset({1}), "terminal": frozenset({0})}
    parity = walk(serve(), ParitySettings(partitions=2, cut_partitions=cut))
    assert parity.reports["customer"].excluded == {"history no longer kept": 60}
    assert parity.reports["customer"].compared == 60
    assert parity.reports["terminal"].compared == 0


def test_vectors_of_another_feature_set_are_left_out() -> None:
    served = serve()
    at = served.features[5].value.index(FEATURES.content_hash.encode())
    served.features[5] = flipped(served.features[5], at)
    parity = walk(served)
    assert parity.reports["terminal"].excluded == {"other feature set": 1}
    assert parity.reports["terminal"].mismatches == 0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sample", [1, 2])
def test_what_another_feature_set_served_is_no_mismatch_of_either_view(seed: int, sample: int) -> None:
    parity = walk(serve(features=OTHER), ParitySettings(partitions=2, sample=sample), seed)
    customer = parity.reports["customer"]
    assert customer.excluded["other feature set"] > 20
    assert customer.mismatches == parity.reports["terminal"].mismatches == 0


def test_a_difference_that_no_record_explains_is_a_mismatch() -> None:
    served = serve(features=OTHER)
    report = walk(Served(served.events, served.updates, [])).reports["customer"]
    assert report.mismatches > 50
    assert report.first is not None
    assert report.first.feature == "customer_count_5m"

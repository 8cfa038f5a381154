from __future__ import annotations

import math
import struct
from datetime import UTC, datetime
from fractions import Fraction

import pytest
from feature_streams import CUSTOMER, DAY, FEATURES_TEXT, HOUR, MINUTE, START, TERMINAL
from hypothesis import example, given
from hypothesis import strategies as st

from services.features.definitions import load_feature_set
from services.features.kernel import View
from services.features.layout import pack
from services.features.state import EntityState
from services.mesh.errors import Poison, RejectCode
from tests.oracle.feature_oracle import float32


def named(view: View, vector: bytes) -> dict[str, float]:
    return dict(zip(view.names, struct.unpack(f"<{view.count}f", vector), strict=True))


def customer_event(
    state: EntityState, time_ms: int, minor: int = 100, exponent: int = 2
) -> tuple[dict[str, float], str]:
    vector, status = CUSTOMER.apply_event(state, time_ms, minor, exponent, time_ms)
    return named(CUSTOMER, vector), status


def terminal_event(state: EntityState, time_ms: int, tag: int = 0) -> tuple[dict[str, float], str]:
    vector, status = TERMINAL.apply_event(state, time_ms, 100, 2, tag)
    return named(TERMINAL, vector), status


def test_a_window_excludes_its_start_and_includes_its_event() -> None:
    state = CUSTOMER.new_state()
    customer_event(state, START)
    inside, _ = customer_event(state, START + 5 * MINUTE - 1)
    outside, _ = customer_event(state, START + 5 * MINUTE)
    assert (inside["customer_count_5m"], outside["customer_count_5m"]) == (2, 2)
    assert outside["customer_count_1h"] == 3


def test_an_event_later_in_time_that_came_before_is_not_counted() -> None:
    state = CUSTOMER.new_state()
    customer_event(state, START + HOUR, minor=900)
    late, status = customer_event(state, START, minor=100)
    assert (late["customer_count_30d"], late["customer_amount_mean_30d"], status) == (1, 1.0, "ok")
    after, _ = customer_event(state, START + HOUR, minor=200)
    assert (after["customer_count_1d"], after["customer_amount_mean_1d"]) == (3, 4.0)


def test_events_of_one_time_stand_in_the_order_they_came() -> None:
    state = CUSTOMER.new_state()
    for time_ms, minor in ((START + 1, 9), (START, 1), (START, 2), (START + 1, 10), (START, 3)):
        customer_event(state, time_ms, minor, exponent=4)
    assert list(state.amounts()) == [1, 2, 3, 9, 10]


def test_amounts_of_currencies_with_other_exponents_add_up_exactly() -> None:
    state = CUSTOMER.new_state()
    for minor, exponent in ((3, 0), (310, 2), (3_125, 3)):
        features, _ = customer_event(state, START, minor, exponent)
    last, _ = customer_event(state, START, 30_005, 4)
    assert features["amount"] == 3.125
    assert last["customer_amount_mean_5m"] == float32(Fraction(122_255, 40_000))


@given(st.integers(0, 4_102_444_800_000))
@example(1_522_540_800_000)  # Sunday 0:00
@example(1_522_565_999_999)  # 6:59:59.999
@example(1_522_566_000_000)  # 7:00
@example(1_522_627_200_000)  # Monday 0:00
def test_weekend_and_night_are_those_of_utc(time_ms: int) -> None:
    features, _ = customer_event(CUSTOMER.new_state(), time_ms)
    moment = datetime.fromtimestamp(time_ms // 1000, UTC)
    assert features["is_weekend"] == (moment.weekday() >= 5)
    assert features["is_night"] == (moment.hour <= 6)


def test_the_delayed_windows_end_a_week_before_the_event() -> None:
    state = TERMINAL.new_state()
    terminal_event(state, START, tag=1)
    early, _ = terminal_event(state, START + 7 * DAY - 1, tag=2)
    due, _ = terminal_event(state, START + 7 * DAY, tag=3)
    gone, _ = terminal_event(state, START + 8 * DAY, tag=4)
    counts = [features["terminal_count_1d_delay_7d"] for features in (early, due, gone)]
    assert counts == [0, 1, 0]


def test_a_label_counts_from_the_moment_it_is_known_and_a_reversal_takes_it_back() -> None:
    state = TERMINAL.new_state()
    terminal_event(state, START, tag=1)
    terminal_event(state, START, tag=2)
    seen = []
    for label in ("", "fraud", "fraud", "genuine", "fraud"):
        if label:
            assert TERMINAL.apply_label(state, START, 2, label)  # type: ignore[arg-type]
        features, _ = terminal_event(state, START + 7 * DAY, tag=3)
        seen.append((features["terminal_fraud_rate_1d_delay_7d"], features["terminal_known_fraud_rate_30d"]))
    assert seen == [(0, 0), (0.5, 1), (0.5, 1), (0, 0), (0.5, 1)]
    assert features["terminal_known_labels_30d"] == 1


@pytest.mark.parametrize(("time_ms", "tag"), [(START + 1, 1), (START, 2)])
def test_a_label_of_an_event_that_is_not_kept_says_so_and_changes_nothing(time_ms: int, tag: int) -> None:
    state = TERMINAL.new_state()
    terminal_event(state, START, tag=1)
    before = pack(state)
    assert not TERMINAL.apply_label(state, time_ms, tag, "fraud")
    assert pack(state) == before


def test_a_label_of_an_event_behind_the_horizon_is_refused_though_it_is_still_in_memory() -> None:
    state = TERMINAL.new_state()
    terminal_event(state, START, tag=1)
    terminal_event(state, START + TERMINAL.kept_span_ms, tag=2)
    assert state.exact_events == 2
    assert not TERMINAL.apply_label(state, START, 1, "fraud")


def test_a_late_event_is_exact_within_the_lateness_and_stale_beyond() -> None:
    state = CUSTOMER.new_state()
    customer_event(state, START)
    exact, at_the_limit = customer_event(state, START - DAY)
    beyond, past_it = customer_event(state, START - DAY - 1)
    assert (at_the_limit, past_it) == ("ok", "stale")
    assert exact["customer_count_30d"] == 1
    assert math.isnan(beyond["customer_count_30d"])
    assert math.isnan(beyond["customer_amount_mean_30d"])
    assert (beyond["customer_count_7d"], beyond["amount"]) == (1, 1.0)


def test_a_stale_event_counts_for_those_to_come_while_its_time_is_kept() -> None:
    state = CUSTOMER.new_state()
    customer_event(state, START)
    customer_event(state, START - 31 * DAY + 1)
    customer_event(state, START - 31 * DAY)
    after, _ = customer_event(state, START - DAY)
    assert state.exact_events == 3
    assert after["customer_count_30d"] == 2


def test_what_is_behind_the_horizon_is_in_no_answer_whether_in_memory_or_not() -> None:
    state = CUSTOMER.new_state()
    customer_event(state, START)
    customer_event(state, START + 31 * DAY)
    late, status = customer_event(state, START + 29 * DAY)
    assert state.exact_events == 3
    assert status == "stale"
    assert math.isnan(late["customer_count_30d"])


def test_memory_holds_at_most_half_more_than_is_kept() -> None:
    state = CUSTOMER.new_state()
    for number in range(5_000):
        customer_event(state, START + number * HOUR)
    kept = 31 * 24
    assert kept <= state.exact_events <= kept * 3 // 2


def test_an_entity_is_saturated_while_a_tile_is_within_reach() -> None:
    state = CUSTOMER.new_state()
    statuses = []
    for number in range(CUSTOMER.exact_events_max + 2):
        _, status = customer_event(state, START + number)
        statuses.append(status)
    assert statuses.index("saturated") == CUSTOMER.exact_events_max + 1
    newest_folded = START + CUSTOMER.exact_events_max + 1 - CUSTOMER.exact_events_max * 3 // 4 - 1
    assert customer_event(state, newest_folded + 30 * DAY - 1)[1] == "saturated"
    assert customer_event(state, newest_folded + 30 * DAY)[1] == "ok"


def test_the_fallback_vector_holds_what_the_event_says_and_nan() -> None:
    vector = named(CUSTOMER, CUSTOMER.fallback_vector(START, 1234, 2))
    assert [vector[name] for name in ("amount", "is_weekend", "is_night")] == [float32(Fraction(1234, 100)), 1, 1]
    assert all(math.isnan(value) for name, value in vector.items() if name.startswith("customer_"))
    assert all(math.isnan(value) for value in named(TERMINAL, TERMINAL.fallback_vector(START, 1, 2)).values())


def test_reading_shows_what_would_be_served_and_changes_nothing() -> None:
    state = CUSTOMER.new_state()
    for number in range(3):
        customer_event(state, START + number * HOUR, minor=100 * number)
    before = pack(state)
    features = CUSTOMER.read(state, START + 2 * HOUR + 1)
    assert (features["customer_count_1h"], features["customer_amount_mean_1d"]) == (1, 1.0)
    assert "amount" not in features
    assert CUSTOMER.read(CUSTOMER.new_state(), START)["customer_count_30d"] == 0
    assert math.isnan(CUSTOMER.read(state, START - 2 * DAY)["customer_count_30d"])
    assert pack(state) == before


@pytest.mark.parametrize(("minor", "exponent"), [(2**63, 4), (2**63 // 10_000 + 1, 0)])
def test_an_amount_beyond_64_bits_is_poison_and_changes_nothing(minor: int, exponent: int) -> None:
    state = CUSTOMER.new_state()
    customer_event(state, START)
    before = pack(state)
    with pytest.raises(Poison, match=f"amount_minor={minor} ") as poison:
        customer_event(state, START, minor, exponent)
    assert (poison.value.code, poison.value.field) == (RejectCode.OUT_OF_RANGE, "amount_minor")
    assert pack(state) == before


def test_totals_beyond_64_bits_stay_exact() -> None:
    state = CUSTOMER.new_state()
    largest = 2**63 - 1
    for number in range(4):
        customer_event(state, START + number * DAY, largest, 4)
    late, _ = customer_event(state, START + DAY + HOUR, 0, 4)
    last, _ = customer_event(state, START + 4 * DAY, 1, 4)
    assert late["customer_amount_mean_7d"] == float32(Fraction(2 * largest, 3 * 10_000))
    assert last["customer_amount_mean_30d"] == float32(Fraction(4 * largest + 1, 6 * 10_000))


@given(total=st.integers(0, 2**53 - 1), count=st.integers(1, 858_993))
@example(total=2**53 - 1, count=858_993)
@example(total=(2**25 + 1) * 10_000 * 3 + 1, count=3)  # beside the middle of two float32
def test_two_roundings_equal_one(total: int, count: int) -> None:
    assert_rounded_once(total, count)


@given(middle=st.integers(2**23, 2**24 - 1), exponent=st.integers(-30, 10), count=st.integers(1, 858_993))
def test_two_roundings_equal_one_as_near_to_the_middle_of_two_float32_as_can_be(
    middle: int, exponent: int, count: int
) -> None:
    target = Fraction(2 * middle + 1) * Fraction(2) ** exponent
    for total in (int(target * count * 10_000) + step for step in (0, 1)):
        if 0 < total < 2**53:
            assert_rounded_once(total, count)


def assert_rounded_once(total: int, count: int) -> None:
    """As the kernel rounds a mean: to a double, then to float32."""
    (served,) = struct.unpack("<f", struct.pack("<f", total / (count * 10_000)))
    assert served == float32(Fraction(total, count * 10_000))


def test_a_view_may_keep_amounts_and_labels() -> None:
    text = FEATURES_TEXT + (
        '      - {names: "terminal_amount_mean_{window}", op: amount_mean, windows: [1d], about: "Mean amount."}\n'
    )
    view = load_feature_set(text, "f").view("terminal")
    state = view.new_state()
    view.apply_event(state, START, 100, 2, 1)
    view.apply_label(state, START, 1, "fraud")
    vector, _ = view.apply_event(state, START + 1, 300, 2, 2)
    features = named(view, vector)
    assert (features["terminal_amount_mean_1d"], features["terminal_known_labels_1d"]) == (2.0, 1)

"""Limits of the gateway: bytes, depth, rate, requests at work."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.limits import DEPTH_MAX, AtWork, Rates, TokenBucket, check_bytes, check_depth
from services.gateway.problem import Kind, Problem


def test_a_body_is_as_large_as_it_may_be_and_no_larger() -> None:
    check_bytes(100, 100)
    with pytest.raises(Problem, match="the body has 101 bytes or more; at most 100 are read here") as refused:
        check_bytes(101, 100)
    assert (refused.value.kind, refused.value.code) == (Kind.TOO_LARGE, "too_large")


@pytest.mark.parametrize("body", [b"[[[[]]]]", b'{"a":{"b":{"c":{}}}}', b'"' + b"[" * 50 + b'"', b'{"a":"\\"[[[[["}'])
def test_what_is_flat_enough_passes(body: bytes) -> None:
    check_depth(body)


@pytest.mark.parametrize("body", [b"[" * 5, b'{"a":[[[[1]]]]}', b"[" * 2_000_000, b'"x"[[[[[', b'{"":' * 100_000])
def test_what_is_deep_is_refused_before_a_parser_sees_it(body: bytes) -> None:
    with pytest.raises(Problem, match=f"{DEPTH_MAX + 1} levels at byte") as refused:
        check_depth(body)
    assert refused.value.kind is Kind.MALFORMED


def test_strings_that_never_end_are_passed_in_one_go() -> None:
    check_depth(b'"' * 2 + b'"\\' * 100_000 + b"]" * 10)  # quadratic, this would take minutes


def test_a_bucket_gives_its_burst_at_once_and_then_its_rate() -> None:
    bucket = TokenBucket(rate=10, burst=20, now_s=0)
    assert [bucket.take(1, 0) for _ in range(20)] == [0.0] * 20
    assert bucket.take(1, 0) == pytest.approx(0.1)
    assert bucket.take(1, 0.1) == 0.0
    assert bucket.take(5, 0.1) == pytest.approx(0.5)


def test_more_than_a_burst_is_let_through_once_and_paid_off() -> None:
    bucket = TokenBucket(rate=10, burst=20, now_s=0)
    assert bucket.take(100, 0) == 0.0
    assert bucket.take(1, 0) == pytest.approx(8.1)
    assert bucket.take(1, 8.1) == 0.0


def test_a_clock_that_steps_back_gives_nothing() -> None:
    bucket = TokenBucket(rate=10, burst=1, now_s=100)
    assert bucket.take(1, 100) == 0.0
    assert bucket.take(1, 50) > 0


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(1, 30)), max_size=60))
def test_no_order_of_requests_gets_more_than_burst_and_rate(requests: list[tuple[float, int]]) -> None:
    bucket, now_s, taken = TokenBucket(rate=10, burst=30, now_s=0), 0.0, 0
    for pause_s, cost in requests:
        now_s += pause_s
        if bucket.take(cost, now_s) == 0.0:
            taken += cost
    assert taken <= 30 + 10 * now_s + 1e-6


def test_one_token_that_is_too_fast_slows_no_other() -> None:
    rates = Rates(rate=5, burst=5)
    rates.check("fast", 5, 0)
    with pytest.raises(Problem, match="token fast: more than 5 records a second") as refused:
        rates.check("fast", 3, 0)
    assert (refused.value.kind, refused.value.retry_after_s) == (Kind.TOO_FAST, 1)
    rates.check("calm", 5, 0)


def test_so_many_at_work_and_no_more() -> None:
    at_work = AtWork(2)
    at_work.enter()
    at_work.enter()
    with pytest.raises(Problem, match="2 requests are being answered already") as refused:
        at_work.enter()
    assert (refused.value.kind, refused.value.retry_after_s) == (Kind.BUSY, 1)
    at_work.leave()
    at_work.enter()

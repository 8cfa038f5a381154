"""Who may do what with a case."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from review_cases import EVENT_MS, HOUR_MS, NOW_MS, case, filed, opened

from services.mesh.review import (
    Case,
    Claim,
    Filed,
    Judgement,
    Opinion,
    Person,
    Refused,
    claimed,
    judged,
    observed_time_ms,
    refiled,
    refusal,
    released,
    sent,
    surplus,
    with_opinions,
)

VERA, OMAR, ROSA = Person("vera"), Person("omar"), Person("rosa", "supervisor")
FOUR_EYES: dict[str, Any] = {"verdicts_needed": 2}


def held_by(who: Person, until_ms: int = NOW_MS + 60_000, **other: Any) -> Filed:
    return filed(claim=Claim(analyst=who.name, since_ms=NOW_MS - 1, until_ms=until_ms), **other)


def opinion(who: Person, verdict: Any = "fraud", time_ms: int = NOW_MS) -> Opinion:
    return Opinion(analyst=who.name, verdict=verdict, why="seen", time_ms=time_ms)


def code_of(act: Any, *arguments: Any) -> str:
    with pytest.raises(Refused) as refused:
        act(*arguments)
    return refused.value.code


def judge(start: Filed, who: Person, verdict: Any = "fraud") -> Filed:
    """Claim, judge, and the log has it."""
    after = judged(claimed(start, who, NOW_MS), who, verdict, "seen", NOW_MS)
    assert after.judgement is not None
    return sent(after, after.judgement)


def test_a_claim_is_one_persons_until_it_expires() -> None:
    mine = claimed(filed(), VERA, NOW_MS, claim_ms=1_000)
    assert mine.claim == Claim(analyst="vera", since_ms=NOW_MS, until_ms=NOW_MS + 1_000)
    assert code_of(claimed, mine, OMAR, NOW_MS + 999) == "held_by_other"
    assert code_of(claimed, mine, ROSA, NOW_MS + 999) == "held_by_other"
    assert claimed(mine, OMAR, NOW_MS + 1_000).holder(NOW_MS + 1_000) == "omar"


def test_a_renewed_claim_keeps_its_beginning() -> None:
    renewed = claimed(claimed(filed(), VERA, NOW_MS, 1_000), VERA, NOW_MS + 500, 1_000)
    assert renewed.claim == Claim(analyst="vera", since_ms=NOW_MS, until_ms=NOW_MS + 1_500)
    anew = claimed(renewed, VERA, NOW_MS + 1_500, 1_000)
    assert anew.claim == Claim(analyst="vera", since_ms=NOW_MS + 1_500, until_ms=NOW_MS + 2_500)


def test_only_its_holder_or_a_supervisor_releases_a_case() -> None:
    assert released(held_by(VERA), VERA, NOW_MS).claim is None
    assert released(held_by(VERA), ROSA, NOW_MS).claim is None
    assert code_of(released, held_by(VERA), OMAR, NOW_MS) == "not_held"
    assert code_of(released, held_by(VERA, NOW_MS), VERA, NOW_MS) == "not_held"
    assert code_of(released, filed(), ROSA, NOW_MS) == "not_held"


@pytest.mark.parametrize("beyond", [{"is_overdue": True}, {"default_action": "challenge"}])
def test_what_is_beyond_an_analyst_needs_a_supervisor(beyond: dict[str, Any]) -> None:
    start = filed(**beyond)
    assert start.shelf in ("escalated", "overflowed")
    assert code_of(claimed, start, VERA, NOW_MS) == "needs_supervisor"
    assert claimed(start, ROSA, NOW_MS).holder(NOW_MS) == "rosa"


def test_who_held_it_before_it_was_escalated_goes_on() -> None:
    late = held_by(VERA, is_overdue=True)
    assert refusal(late, VERA, NOW_MS) is None
    assert judged(late, VERA, "fraud", "seen", NOW_MS).judgement is not None


def test_a_verdict_needs_the_claim_and_a_reason() -> None:
    assert code_of(judged, filed(), VERA, "fraud", "seen", NOW_MS) == "not_held"
    assert code_of(judged, held_by(OMAR), VERA, "fraud", "seen", NOW_MS) == "not_held"
    assert code_of(judged, held_by(VERA, NOW_MS), VERA, "fraud", "seen", NOW_MS) == "not_held"
    assert code_of(judged, held_by(VERA), VERA, "fraud", " \n ", NOW_MS) == "reason_missing"


def test_one_verdict_is_enough_below_the_value_of_four_eyes() -> None:
    done = judge(filed(), VERA)
    assert done.shelf == "judged"
    assert done.claim is None
    assert done.judgement is not None
    assert done.judgement.is_final
    assert code_of(claimed, done, OMAR, NOW_MS) == "judged"


def test_above_it_two_people_have_to_agree() -> None:
    once = judge(filed(**FOUR_EYES), VERA)
    assert (once.shelf, once.case.opinions) == ("open", (opinion(VERA),))
    assert code_of(claimed, once, VERA, NOW_MS) == "own_opinion"
    assert judge(once, OMAR).shelf == "judged"


def test_where_two_disagree_a_supervisor_decides() -> None:
    disputed = judge(judge(filed(**FOUR_EYES), VERA, "fraud"), OMAR, "genuine")
    assert disputed.case.is_disputed
    assert disputed.shelf == "escalated"
    assert code_of(claimed, disputed, Person("nina"), NOW_MS) == "needs_supervisor"
    assert judge(disputed, ROSA, "genuine").shelf == "judged"


def test_who_was_one_of_the_two_does_not_decide_between_them() -> None:
    disputed = judge(judge(filed(**FOUR_EYES), VERA, "fraud"), ROSA, "genuine")
    assert code_of(claimed, disputed, ROSA, NOW_MS) == "own_opinion"


def test_a_supervisors_verdict_alone_is_one_pair_of_eyes() -> None:
    assert judge(filed(**FOUR_EYES), ROSA).shelf == "open"


def test_a_verdict_that_is_repeated_before_it_was_sent_is_the_same() -> None:
    first = judged(held_by(VERA), VERA, "fraud", "seen", NOW_MS)
    again = judged(first, VERA, "fraud", "seen better", NOW_MS + 5_000)
    assert again is first
    other = judged(first, VERA, "genuine", "looked again", NOW_MS + 5_000)
    assert other.judgement is not None
    assert (other.judgement.verdict, other.judgement.time_ms) == ("genuine", NOW_MS + 5_000)


def test_a_verdict_that_was_never_sent_gives_way_to_the_next_analysts() -> None:
    stuck = judged(held_by(VERA, NOW_MS + 10), VERA, "fraud", "seen", NOW_MS)
    after = judged(claimed(stuck, OMAR, NOW_MS + 10), OMAR, "genuine", "seen", NOW_MS + 11)
    assert after.judgement is not None
    assert (after.judgement.analyst, after.judgement.verdict) == ("omar", "genuine")


def test_an_opinion_that_arrives_late_takes_nothing_from_who_holds_the_case_now() -> None:
    stuck = judged(held_by(VERA, NOW_MS + 10, **FOUR_EYES), VERA, "fraud", "seen", NOW_MS)
    theirs = judged(claimed(stuck, OMAR, NOW_MS + 10), OMAR, "fraud", "seen", NOW_MS + 11)
    assert stuck.judgement is not None
    late = sent(theirs, stuck.judgement)
    assert late.holder(NOW_MS + 12) == "omar"
    assert late.judgement == theirs.judgement
    assert late.case.opinions == (opinion(VERA),)


def test_a_closed_case_is_over() -> None:
    over = held_by(VERA, resolution="elsewhere", verdict="fraud")
    assert over.shelf == "closed"
    assert code_of(claimed, over, VERA, NOW_MS) == "closed"
    assert code_of(judged, over, VERA, "fraud", "seen", NOW_MS) == "closed"
    judgement = Judgement(analyst="vera", role="analyst", verdict="fraud", why="seen", time_ms=1, observed_time_ms=1,
                          is_final=True)  # fmt: skip
    assert sent(over, judgement).shelf == "closed"


def test_the_log_leaves_claims_alone_until_the_case_ends() -> None:
    start = held_by(VERA, version=4)
    late = refiled(start, case(is_overdue=True))
    assert (late.claim, late.version, late.shelf) == (start.claim, 4, "escalated")
    over = refiled(start, case(resolution="matured"))
    assert (over.claim, over.version, over.shelf) == (None, 4, "closed")
    assert refiled(None, case()) == filed()


def test_an_opinion_that_the_log_has_not_brought_yet_is_kept() -> None:
    start = judge(filed(**FOUR_EYES), VERA)
    assert refiled(start, case(**FOUR_EYES)).case.opinions == (opinion(VERA),)


@pytest.mark.parametrize(
    ("now_ms", "clock_ms", "expected"),
    [
        (NOW_MS, 0, EVENT_MS + HOUR_MS),  # as long after the event as people had it
        (NOW_MS, EVENT_MS + 90 * HOUR_MS, EVENT_MS + 90 * HOUR_MS),  # a replay runs ahead of people
        (NOW_MS, NOW_MS + 1, NOW_MS),  # never in the future
        (NOW_MS - 2 * HOUR_MS, 0, EVENT_MS),  # a clock of people that is behind the broker's
    ],
)
def test_an_observation_is_told_in_the_time_of_events(now_ms: int, clock_ms: int, expected: int) -> None:
    assert observed_time_ms(opened(), now_ms, clock_ms) == expected


LOSSES = st.lists(st.integers(0, 5), min_size=0, max_size=12)


def cases_of(losses: list[int]) -> list[Case]:
    return [case(f"e-{number}", loss) for number, loss in enumerate(losses)]


@given(LOSSES, st.integers(0, 14), st.sets(st.integers(0, 11)))
def test_what_overflows_is_never_more_costly_than_what_stays(losses: list[int], room: int, spared: set[int]) -> None:
    cases = cases_of(losses)
    kept_back = {cases[number].case_id for number in spared if number < len(cases)}
    gone = surplus(cases, room, kept_back)
    stays = [each for each in cases if each not in gone and each.case_id not in kept_back]
    assert not {each.case_id for each in gone} & kept_back
    assert len(gone) == min(max(0, len(cases) - room), len(cases) - len(kept_back))
    assert all(out.order >= in_.order for out in gone for in_ in stays)


OPINIONS = st.lists(
    st.builds(
        Opinion,
        analyst=st.sampled_from(["a", "b", "c"]),
        verdict=st.sampled_from(["fraud", "genuine"]),
        why=st.just("w"),
        time_ms=st.integers(0, 9),
    ),
    max_size=4,
    unique_by=lambda one: one.analyst,
)


@given(OPINIONS, st.randoms())
def test_opinions_add_up_in_any_order_and_any_number_of_times(opinions: list[Opinion], random: Any) -> None:
    shuffled = [*opinions, *opinions]
    random.shuffle(shuffled)
    one_by_one = case()
    for each in shuffled:
        one_by_one = with_opinions(one_by_one, [each])
    assert one_by_one == with_opinions(case(), opinions)


class Moves:
    """People and time, as hypothesis plays them."""

    people = (VERA, OMAR, Person("nina"), ROSA, Person("ruth", "supervisor"))


@given(
    st.integers(1, 2),
    st.lists(st.tuples(st.sampled_from(Moves.people), st.sampled_from(["fraud", "genuine"])), max_size=8),
)
def test_whoever_tries_in_whatever_order_four_eyes_hold(needed: int, tries: list[tuple[Person, Any]]) -> None:
    state, said = filed(verdicts_needed=needed), dict[str, str]()
    for who, verdict in tries:
        try:
            state = judge(state, who, verdict)
        except Refused:
            continue
        said.setdefault(who.name, verdict)
        if state.shelf == "judged":
            assert state.judgement is not None
            agreeing = [name for name, told in said.items() if told == state.judgement.verdict]
            assert len(agreeing) >= needed or (len(said) > needed and who.role == "supervisor")
            break
    assert len(state.case.opinions) == len({one.analyst for one in state.case.opinions})

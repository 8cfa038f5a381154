"""Committed offsets: whatever order deliveries end in, a restart sends what is not settled and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.webhooks.progress import METADATA_BYTES_MAX, WAITING_MAX, Mark, Progress, fresh, mark_in

CREATED_MS = 1_790_000_000_000
OFFSETS = st.integers(0, 10**18)
MARKS = st.builds(
    lambda start, steps, behind: _mark(start, steps, behind),
    OFFSETS, st.lists(st.integers(1, 10**15), max_size=WAITING_MAX), st.integers(1, 10**15),
)  # fmt: skip


def _mark(start: int, steps: list[int], behind: int) -> Mark:
    waiting = [start]
    for step in steps[1:]:
        waiting.append(waiting[-1] + step)
    return Mark(start, waiting[-1] + behind, tuple(waiting)) if steps else Mark(start, start, ())


@given(MARKS)
def test_a_mark_survives_its_metadata_which_fits_the_broker(mark: Mark) -> None:
    text = mark.metadata(CREATED_MS)
    assert len(text) <= METADATA_BYTES_MAX
    assert mark_in(mark.offset, text, CREATED_MS) == mark


def test_the_longest_metadata_fits() -> None:
    waiting = tuple(range(0, WAITING_MAX * 9 * 10**15, 9 * 10**15))
    assert len(Mark(0, 2**63 - 1, waiting).metadata(2**63 - 1)) <= METADATA_BYTES_MAX


@given(st.text() | st.just("1 7 5"), st.integers(0, 100))
def test_metadata_of_others_is_no_mark(text: str, offset: int) -> None:
    assert mark_in(offset, text, CREATED_MS) is None
    assert mark_in(offset, fresh(3).metadata(CREATED_MS + 1), CREATED_MS) is None


@given(st.data())
def test_a_restart_reads_what_is_not_settled_and_nothing_else(data: st.DataObject) -> None:
    """Lives of a reader over one log with holes, each ended by a crash that keeps only the latest commit."""
    log = sorted(data.draw(st.sets(st.integers(0, 60), max_size=40)))
    settled = set[int]()
    mark = fresh(0)
    for _ in range(data.draw(st.integers(1, 5))):
        progress = Progress(mark)
        seen, open_ones, at = set[int](), set[int](), [offset for offset in log if offset >= mark.offset]
        committed = set(settled)
        for _ in range(data.draw(st.integers(0, 40))):
            match data.draw(st.sampled_from(("read", "settle", "commit"))):
                case "read" if at:
                    offset = at.pop(0)
                    is_new = progress.read(offset)
                    assert is_new == (offset not in committed), "settled and committed is never seen again"
                    if is_new:
                        assert offset not in seen
                        seen.add(offset)
                        open_ones.add(offset)
                case "settle" if open_ones:
                    offset = data.draw(st.sampled_from(sorted(open_ones)))
                    progress.settled(offset)
                    open_ones.remove(offset)
                    settled.add(offset)
                case "commit":
                    mark = mark_in(progress.mark().offset, progress.mark().metadata(CREATED_MS), CREATED_MS) or mark
                    committed_now = {offset for offset in log if offset < mark.position} - set(mark.waiting)
                    assert committed_now <= settled, "nothing is committed that was not settled"
                    assert committed_now == {offset for offset in settled if offset < mark.position}
        settled = {offset for offset in log if offset < mark.position} - set(mark.waiting)
    # The last life reads all the rest: together every record was seen and settled.
    progress = Progress(mark)
    left = [offset for offset in log if offset >= mark.offset and progress.read(offset)]
    assert sorted(settled | set(left)) == log


def test_the_offset_waits_for_the_slow_one_and_the_metadata_remembers_the_rest() -> None:
    progress = Progress(fresh(10))
    assert all(progress.read(offset) for offset in (10, 11, 12, 14))
    for offset in (11, 14):
        progress.settled(offset)
    assert progress.changed() == Mark(10, 15, (10, 12))
    assert progress.changed() is None
    assert Mark(10, 15, (10, 12)).metadata(7) == "1 7 15 0,2"
    again = Progress(Mark(10, 15, (10, 12)))
    assert [offset for offset in (10, 11, 12, 14, 15) if again.read(offset)] == [10, 12, 15]


def test_markers_of_transactions_are_passed_over() -> None:
    progress = Progress(fresh(0))
    progress.read(0)
    progress.settled(0)
    progress.passed(2)
    assert progress.mark() == Mark(2, 2, ())
    progress.passed(1)
    assert progress.mark() == Mark(2, 2, ())


def test_what_retention_has_deleted_is_waited_for_no_longer() -> None:
    progress = Progress(Mark(10, 20, (10, 12, 15)))
    assert progress.read(15)
    assert progress.mark() == Mark(15, 20, (15,))
    gone = Progress(Mark(10, 20, (10, 12)))
    gone.passed(30)
    assert gone.mark() == Mark(30, 30, ())


def test_there_is_room_for_so_many_that_wait() -> None:
    progress = Progress(fresh(0))
    for offset in range(WAITING_MAX):
        assert progress.room == WAITING_MAX - offset
        progress.read(offset)
    assert progress.room == 0

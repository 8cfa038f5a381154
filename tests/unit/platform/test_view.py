"""What a person sees: one line where output is a file, a picture of 80 columns on a terminal."""

from __future__ import annotations

import io
import time
from dataclasses import replace

from rich.console import Console

from services.platform.observe import StageStatus
from services.platform.view import Snapshot, View, drawn, line_of

STAGES = [
    StageStatus(stage="ingestion", lag=1_234, rate_per_s=4_000.4, ready=1, instances=1, input_age_ms=12.3, step_us=23,
                rejects={"late": 3}, duplicates=2),
    StageStatus(stage="decisions", lag=10, rate_per_s=3_900, ready=0, instances=1, statuses={"ok": 5, "stale": 1},
                versions={"policy": "p" * 40}),
]  # fmt: skip
SNAPSHOT = Snapshot(
    stages=STAGES, decisions=9_000, latency_ms={"p50": 90, "p99": 1_200, "p999": None},
    actions={"decline": 1, "approve": 3}, event_time_ms=1_735_732_800_000, sent=10_000, total=40_000, phase="sending",
    seconds=61.5,
)  # fmt: skip
NOTHING = replace(SNAPSHOT, decisions=0, actions={}, event_time_ms=0, sent=0, total=None, latency_ms={"p50": None})


def picture(snapshot: Snapshot) -> list[str]:
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    console.print(drawn(snapshot))
    return str(console.file.getvalue()).splitlines()  # type: ignore[attr-defined]


def test_line_says_everything_once() -> None:
    assert line_of(SNAPSHOT) == (
        "  61.5 s  sending: sent 10,000 of 40,000 (25%)  event time 2025-01-01 12:00  decided 9,000 at 3,900/s  "
        "lag 1,244  latency p50/p99/p99.9 90 / 1,200 / - ms  approve 75.0% decline 25.0%"
    )


def test_line_before_anything_happened_invents_nothing() -> None:
    assert "1970" not in line_of(NOTHING)
    assert "%" not in line_of(NOTHING)


def test_picture_has_a_row_a_stage_with_what_is_odd_about_it() -> None:
    text = "\n".join(picture(SNAPSHOT))
    assert "ingestion     4,000  1,234      12 ms        23  3 refused, 2 repeated" in text
    assert "0 of 1 ready, 1 stale" in text
    assert "policy pppppppppppppppppppppppp" in text
    assert max(map(len, picture(SNAPSHOT))) <= 80
    assert picture(NOTHING)


def test_a_halted_stage_says_why() -> None:
    halted = replace(SNAPSHOT, stages=[StageStatus(stage="ingestion", halted="a flood")])
    assert "halted: a flood" in "\n".join(picture(halted))


def test_into_a_file_go_plain_lines_and_not_too_many() -> None:
    file = io.StringIO()
    view = View(Console(file=file, width=40), time.monotonic())
    view.happened("kafka: died [SIGKILL]")
    view.show(SNAPSHOT)
    view.show(SNAPSHOT)
    view.close()
    lines = file.getvalue().splitlines()
    assert len(lines) == 2  # the second snapshot comes too soon
    assert lines[0].endswith(" s  kafka: died [SIGKILL]")
    assert lines[1] == line_of(SNAPSHOT)
    assert "\x1b" not in file.getvalue()


def test_on_a_terminal_news_stand_above_the_picture() -> None:
    file = io.StringIO()
    view = View(Console(file=file, width=80, height=40, force_terminal=True), time.monotonic())
    view.show(SNAPSHOT)
    view.happened("scoring-0: died (SIGKILL), restart in 0.2 s")
    view.show(SNAPSHOT)
    view.close()
    text = file.getvalue()
    assert text.index("scoring-0: died") < text.rindex("ingestion")

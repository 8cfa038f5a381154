"""The command line as one frozen record, every value checked."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.mesh.errors import Fatal
from services.simulator.flight import WINDOW_MS_DEFAULT
from services.simulator.speed import Speed, parse_duration_s, parse_speed

# Ten virtual minutes a second: 65 payments a second on average, and a day with its rush hours passes in 2.4 minutes.
SIMULATOR_SPEED = "600"
FILE_SPEED = "max"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to send, how fast, for how long, and where to remember it."""

    kafka: str
    input: str | None
    speed: Speed
    for_s: float | None
    label_delay_ms: int
    world: str
    seed: int
    days: int | None
    history_days: int
    customers: int
    terminals: int
    shift_day: int | None
    dirty: float
    state: Path | None
    window_ms: int
    reviewed: int  # customers that analysts look into each evening
    # Where the control plane's processes tell how to ask them: event time waits for it each midnight. None: never.
    hold: Path | None


def read_settings(arguments: Sequence[str] | None = None) -> Settings:
    """Settings from the command line; Fatal on a value that makes no sense."""
    given = _parser().parse_args(arguments)
    if given.days is not None and given.days < 1:
        raise Fatal(f"--days={given.days}: must be at least 1")
    if given.history_days < 0:
        raise Fatal(f"--history-days={given.history_days}: must not be negative")
    if given.reviewed < 0:
        raise Fatal(f"--reviewed={given.reviewed}: must not be negative; 0 is nobody")
    if given.reviewed and given.hold is None:
        raise Fatal(f"--reviewed={given.reviewed}: analysts wait for a day's decisions; name --hold too")
    if not 0.0 <= given.dirty <= 0.5:
        raise Fatal(f"--dirty={given.dirty}: must be between 0 and 0.5 (0.01 is one record in a hundred)")
    return Settings(
        kafka=given.kafka,
        input=given.input,
        speed=parse_speed(given.speed or (FILE_SPEED if given.input else SIMULATOR_SPEED)),
        for_s=None if given.for_ is None else parse_duration_s(given.for_, "FOR"),
        label_delay_ms=round(parse_duration_s(given.label_delay, "LABEL_DELAY") * 1_000),
        world=given.world,
        seed=given.seed,
        days=given.days,
        history_days=given.history_days,
        customers=given.customers,
        terminals=given.terminals,
        shift_day=given.shift_day,
        dirty=given.dirty,
        state=given.state,
        window_ms=round(parse_duration_s(given.window, "--window") * 1_000),
        reviewed=given.reviewed,
        hold=given.hold,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m services.simulator",
        description="Send card payments and their outcomes: a simulated world's, or a file's.",
        epilog="example: python -m services.simulator --kafka localhost:9092 --input payments.parquet --speed max",
    )
    add = parser.add_argument
    add("--kafka", required=True, metavar="HOST:PORT", help="bootstrap server")
    add("--input", metavar="FILE", help=".parquet, .jsonl or .csv (default: the built-in simulator)")
    add(
        "--speed",
        help=f"max, a factor of event time, or N/s (default: {FILE_SPEED} for a file, else {SIMULATOR_SPEED})",
    )
    add("--for", dest="for_", metavar="SECONDS", help="stop after this long, such as 240 or 10m")
    add("--label-delay", default="7d", help="event time until a payment's outcome is known (default: 7d)")
    add("--world", default="default", help="which simulated world (default: default); the scenario's is drift")
    add("--seed", type=int, default=1, help="of the simulated world (default: 1)")
    add("--days", type=int, help="of the simulated world, history included (default: without end)")
    add("--history-days", type=int, default=60, help="first days, sent at full speed (default: 60)")
    add("--customers", type=int, default=5_000, help="in the simulated world (default: 5000)")
    add("--terminals", type=int, default=10_000, help="in the simulated world (default: 10000)")
    add("--shift-day", type=int, help="day on which the simulated world begins to change (default: never)")
    add(
        "--dirty",
        type=float,
        default=0.0,
        metavar="RATE",
        help="late, repeated, conflicting and broken records over clean ones",
    )
    add("--reviewed", type=int, default=0, metavar="N", help="customers that analysts look into each evening")
    add("--hold", type=Path, metavar="DIR", help="wait at each midnight of event time for the mesh that keeps DIR")
    add("--state", type=Path, metavar="FILE", help="where progress is kept, so that a second start goes on")
    add("--window", default=f"{WINDOW_MS_DEFAULT // 1_000}s", help="event time that may be in flight (default: 6h)")
    return parser

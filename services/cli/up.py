"""``weir up``: the whole mesh on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from services.cli.shared import DATA_DIR_DEFAULT
from services.mesh.errors import Fatal
from services.mesh.topics import DATA_PARTITIONS_DEFAULT
from services.mesh.watermark import check_partitions
from services.platform.scenario import scenario
from services.platform.scenario_plan import SEEDS_DEFAULT
from services.platform.stages import OPTIONAL
from services.platform.up import UpSettings, up
from services.simulator.settings import read_settings
from services.simulator.sources import open_source
from services.simulator.speed import parse_duration_s

_INSTANCES_MAX = 16
LABEL_DELAY_DEFAULT = "7d"


def fill(parser: argparse.ArgumentParser) -> None:
    """``weir up``."""
    parser.description = "Start Kafka, Redis, the schema registry and every service, send input, and sum up at the end."
    parser.epilog = "example: weir up --input payments.parquet --speed max --for 240 --data-dir /tmp/mesh"
    add_ = parser.add_argument
    add_(
        "--data-dir", type=Path, default=Path(DATA_DIR_DEFAULT), metavar="D", help="everything it keeps (default: data)"
    )
    add_("--no-input", action="store_true", help="only the mesh: send events yourself")
    add_("--input", metavar="FILE", help=".parquet, .jsonl or .csv (default: the built-in simulator)")
    add_("--speed", help="max, a factor of event time such as 60, or N/s (default: max for a file, 600 otherwise)")
    add_("--for", dest="for_", metavar="SECONDS", help="stop sending after this long, such as 240 or 10m")
    add_("--label-delay", help=f"event time until a payment's outcome is known (default: {LABEL_DELAY_DEFAULT})")
    add_(
        "--reviewed", type=int, default=0, metavar="N", help="customers that analysts review each evening (default: 0)"
    )
    add_("--scenario", help="a run of several worlds, side by side: drift")
    add_("--seeds", metavar="1,2,..", help="of the scenario's worlds (default: 1,2,3,4,5)")
    add_("--world", help="which simulated world: default, or the scenario's, drift")
    add_("--record", action="store_true", help="leave decisions and moments in files, for the scenario")
    add_("--without", metavar="NAMES", help=f"services to leave out, of {', '.join(OPTIONAL)} (default: none)")
    add_("--window", help="event time that may be on its way at once (default: 6h)")
    add_("--seed", type=int, help="of the simulated world (default: 1)")
    add_("--days", type=int, help="of the simulated world, history included (default: without end)")
    add_("--history-days", type=int, help="past days of it, sent at full speed (default: 60)")
    add_("--shift-day", type=int, help="day on which the simulated world begins to change (default: never)")
    add_("--dirty", type=float, metavar="RATE", help="late, repeated, conflicting and broken records (default: 0)")
    several = f"of data topics, for ever (default: {DATA_PARTITIONS_DEFAULT})"
    add_("--partitions", type=int, default=DATA_PARTITIONS_DEFAULT, help=several)
    add_("--instances", type=int, default=1, help="processes of each stage (default: 1)")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Check what can be checked before anything starts, then start it."""
    if given.scenario or given.seeds:
        named = {"INPUT": given.input, "SPEED": given.speed, "FOR": given.for_, "REVIEWED": given.reviewed}
        if extra := [f"{name}={value}" for name, value in named.items() if value]:
            raise Fatal(f"{', '.join(extra)}: a scenario brings its own input, pace and analysts; leave it out")
        return scenario(given.scenario or "", _seeds(given.seeds), given.data_dir, Console())
    _check(given)
    settings = UpSettings(
        data_dir=given.data_dir,
        input=not given.no_input,
        for_s=None if given.for_ is None else parse_duration_s(given.for_, "FOR"),
        simulator_arguments=_simulator_arguments(given),
        label_delay=given.label_delay or LABEL_DELAY_DEFAULT,
        partitions=given.partitions,
        instances=given.instances,
        judged=given.input if _waits(given) else None,
        record=given.record,
        without=_without(given.without),
        environment={},
    )
    return up(settings, Console())


def _seeds(text: str | None) -> tuple[int, ...]:
    """Raises Fatal."""
    if text is None:
        return SEEDS_DEFAULT
    try:
        seeds = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise Fatal(f"SEEDS={text}: must be whole numbers with commas between them, such as 1,2,3") from None
    if min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise Fatal(f"SEEDS={text}: must be different from each other, and none below 0")
    return seeds


def _without(text: str | None) -> frozenset[str]:
    """Raises Fatal."""
    names = frozenset(text.split(",")) if text else frozenset()
    if strangers := sorted(names - set(OPTIONAL)):
        raise Fatal(f"--without={text}: {strangers[0]!r} is not one of {', '.join(OPTIONAL)}")
    return names


def _check(given: argparse.Namespace) -> None:
    """Raises Fatal."""
    if not 1 <= given.instances <= _INSTANCES_MAX:
        raise Fatal(f"--instances={given.instances}: must be from 1 to {_INSTANCES_MAX}")
    check_partitions(given.partitions)
    if given.no_input and given.input:
        raise Fatal(f"--no-input and --input={given.input}: choose one")
    sender = read_settings(["--kafka", "not yet", *_simulator_arguments(given)])
    if sender.input:
        open_source(sender.input, sender.label_delay_ms)


def _waits(given: argparse.Namespace) -> bool:
    """Whether event time waits at midnights: where labels matter, whoever asked for them; not in plain speed runs."""
    return bool(given.reviewed) or given.label_delay is not None


def _simulator_arguments(given: argparse.Namespace) -> tuple[str, ...]:
    named = {
        "--input": given.input,
        "--speed": given.speed,
        "--for": given.for_,
        "--label-delay": given.label_delay,
        "--world": given.world,
        "--seed": given.seed,
        "--days": given.days,
        "--reviewed": given.reviewed or None,
        "--hold": given.data_dir.resolve() / "run" if _waits(given) else None,
        "--history-days": given.history_days,
        "--shift-day": given.shift_day,
        "--dirty": given.dirty,
        "--window": given.window,
    }
    return tuple(part for name, value in named.items() if value is not None for part in (name, str(value)))

"""``weir policy backtest``: a policy on everything that was decided, against what was decided or another policy."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from services.cli.acting import user_name
from services.cli.decision_history import read_history
from services.cli.policy_file import load_file
from services.cli.policy_journal import read_book
from services.cli.shared import add_json, add_mesh, endpoints_of, print_json, print_line, shown_time
from services.decisions.backtest import replay
from services.decisions.history import History
from services.decisions.policy import Policy
from services.decisions.report import Ledger, Report, Share, Side, changes, compare
from services.decisions.verdict import ACTIONS
from services.mesh.errors import Fatal
from services.mesh.feature_set import pinned_feature_set
from services.mesh.settings import parse_duration_ms
from services.platform.files import write_atomically

BACKTESTS = "backtests"  # in the data directory
STORED_MAX = 200


def fill(parser: argparse.ArgumentParser) -> None:
    """``weir policy backtest``."""
    parser.description = (
        "Decides every recorded event anew, velocity rules, fuses and review budget included, and sets the result "
        "beside what was decided. The first run reads the log and keeps columns in DATA/history; the next ones "
        "read only what came since."
    )
    parser.epilog = "example: weir policy backtest policy.yaml --changes changed.csv"
    parser.set_defaults(run=run)
    parser.add_argument("file", type=Path, metavar="FILE", help="the policy, YAML")
    parser.add_argument(
        "--against", metavar="FILE|VERSION", help="another policy on the same events (default: what was decided)"
    )
    parser.add_argument("--last", metavar="AGE", help="only events of the last 7d, 12h, ... of event time")
    parser.add_argument("--changes", type=Path, metavar="CSV", help="write every event whose action changes")
    parser.add_argument(
        "--labels",
        choices=("let-through", "all"),
        default="let-through",
        help="let-through: an event that was declined shows no outcome (default); all: labels come whatever was done",
    )
    parser.add_argument("--by", metavar="NAME", help="who runs it (default: this user)")
    add_mesh(parser)
    add_json(parser)


def run(given: argparse.Namespace) -> int:
    """Read, replay, compare, tell."""
    policy, _ = load_file(given.file)
    features = pinned_feature_set()

    def note(topic: str, records: int) -> None:
        sys.stderr.write(f"reading {records:,} records of {topic} that no backtest has read before\n")

    began_s = time.monotonic()
    history, left_out = read_history(given.data_dir, endpoints_of(given).kafka, features, note)
    if left_out:
        sys.stderr.write(f"{left_out:,} decisions have vectors of another feature set and are left out\n")
    if given.last:
        history = latest(history, parse_duration_ms(given.last, "--last"))
    if not len(history):
        raise Fatal("nothing was decided yet that could be tried on; send events first")
    read_s = time.monotonic() - began_s
    ledger = Ledger(history, every_label=given.labels == "all")
    replayed = replay(history, policy, ledger.columns())
    old = Side(history.action, history.wanted)
    if given.against:
        other = replay(history, _other(given), ledger.columns())
        old = Side(other.action, other.wanted, other.over_budget)
    report = compare(ledger, policy, replayed, old, recorded=not given.against)
    replay_s = time.monotonic() - began_s - read_s
    if given.changes:
        _write_changes(given.changes, changes(history, old, replayed))
    told = {
        "policy_version": policy.version,
        "against": given.against,
        "by": given.by or user_name("--by"),
        "run_ms": time.time_ns() // 1_000_000,
        "read_s": read_s,
        "replay_s": replay_s,
        **dataclasses.asdict(report),
    }
    stored = _stored(given.data_dir / BACKTESTS, told)
    if given.json:
        print_json({**told, "stored": stored.name})
        return 0
    for line in lines_of(report, policy):
        print_line(line)
    print_line(f"{len(history):,} events: columns {read_s:.1f} s, replay and report {replay_s:.1f} s; kept in {stored}")
    return 0


def latest(history: History, age_ms: int) -> History:
    """Events of the last ``age_ms`` of event time."""
    times_ms = history.numbers["event_time_ms"]
    return history.kept(times_ms > np.max(times_ms, initial=0) - age_ms)


def lines_of(report: Report, policy: Policy) -> Iterator[str]:
    """The report for people."""
    who = report.population
    yield f"{policy.version} on {who.events:,} events, {shown_time(who.from_ms)} to {shown_time(who.to_ms)}"
    yield f"changes the action of {report.changed:,} ({report.changed / max(1, who.events):.2%}):"
    yield f"  {'old, down; new, across':24}" + "".join(f"{action:>12}" for action in ACTIONS)
    for action in ACTIONS:
        yield f"  {action:24}" + "".join(f"{count:>12,}" for count in report.moves[action].values())
    yield ""
    yield f"  {'':24}{'events':>12}{'precision':>24}{'recall':>24}{f'fraud {who.currency}':>16}{'genuine':>14}"
    for kind, sides in (("declined", report.declined), ("not approved", report.stopped)):
        for name, figures in sides.items():
            yield (
                f"  {f'{kind}, {name}':24}{figures.events:>12,}{_shown(figures.precision):>24}"
                f"{_shown(figures.recall):>24}{figures.fraud_stopped:>16,.0f}{figures.genuine_stopped:>14,.0f}"
            )
    for name, load in report.reviews.items():
        over = f", {load.over_budget:,} over budget" if load.over_budget else ""
        yield f"  reviews a day, {name}: {load.mean_a_day:,.1f}, most {load.most_a_day:,}{over}"
    yield ""
    heads = "".join(f"{head:>10}" for head in ("action", "hits", "before", "rate", "expected"))
    yield f"  {'rule':32}{heads}{'precision':>24}{'fuse':>8}"
    for rule in report.rules:
        expected = "" if rule.expected_rate is None else f"{rule.expected_rate:.3%}"
        fuse = f"{rule.hits_with_fuse_blown:,}" if rule.hits_with_fuse_blown else ""
        yield (
            f"  {rule.name:32}{rule.action:>10}{rule.hits:>10,}{rule.hits_before:>10,}{rule.rate:>10.3%}"
            f"{expected:>10}{_shown(rule.precision):>24}{fuse:>8}"
        )
    yield ""
    yield (
        f"precision, recall and money speak of {who.labelled:,} labelled events that were not declined, "
        f"{who.let_through:,} of them let through by chance and weighted by 1/propensity (worth {who.effective:,.0f} "
        f"equal ones); nothing is known of {who.blocked_unseen:,} declined without that chance"
    )
    if who.labels_left_out:
        yield f"left out: labels of {who.labels_left_out:,} declined events (--labels all counts them)"
    if who.other_currencies:
        yield f"money is in {who.currency}; {who.other_currencies:,} events in other currencies count without theirs"
    if report.agrees:
        same, own = report.agrees
        yield f"of {own:,} events that this very version decided live, {same:,} came out the same"


def _stored(directory: Path, told: dict[str, Any]) -> Path:
    """Where the result is kept for the console, whole or not at all; the oldest give way."""
    directory.mkdir(exist_ok=True)
    file = directory / f"{told['run_ms']}-{re.sub('[^A-Za-z0-9._-]', '_', told['policy_version'])[:100]}.json"
    write_atomically(file, json.dumps(told, indent=2) + "\n")
    for old in sorted(directory.glob("*.json"))[:-STORED_MAX]:
        old.unlink(missing_ok=True)
    return file


def _shown(share: Share) -> str:
    if share.value is None:
        return "unknown"
    return f"{share.value:.1%} ({share.low:.1%}-{share.high:.1%})"


def _other(given: argparse.Namespace) -> Policy:
    if Path(given.against).is_file():
        return load_file(Path(given.against))[0]
    book = read_book(endpoints_of(given).kafka)
    book.released(given.against)
    found = book.library.get(given.against)
    if found is None:
        raise Fatal(f"--against {given.against}: that release was refused; see weir policy list")
    return found


def _write_changes(file: Path, rows: Iterator[dict[str, Any]]) -> None:
    """One event a line, values as they are: a spreadsheet may read it."""
    try:
        with file.open("w", encoding="utf-8", newline="") as out:
            writer: csv.DictWriter[str] | None = None
            for row in rows:
                if writer is None:
                    writer = csv.DictWriter(out, list(row))
                    writer.writeheader()
                writer.writerow(row)
    except OSError as error:
        raise Fatal(f"--changes {file}: {error.strerror}; name a file that can be written") from None

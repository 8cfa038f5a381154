"""``weir policy``: check, backtest, shadow, publish, roll back; see which policies are at work and which were."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from services.cli.late_parser import LateParser
from services.cli.policy_file import load_file
from services.cli.policy_journal import Book, move, read_book
from services.cli.shared import add_json, add_mesh, endpoints_of, print_json, print_line, shown_time
from services.mesh.errors import Fatal
from services.mesh.records import PolicyMove


def fill(parser: LateParser) -> None:
    """``weir policy``."""
    parser.epilog = "example: weir policy check schemas/payments/policy.yaml"
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    def action(name: str, run: Any, help_text: str, example: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = actions.add_parser(
            name, help=help_text, description=help_text[0].upper() + help_text[1:] + ".", epilog=f"example: {example}"
        )
        added.set_defaults(run=run)
        return added

    actions.add_parser(
        "check", help="say every mistake in a file, with its line", filled_by="services.cli.policy_file:fill"
    )
    actions.add_parser(
        "backtest",
        help="try a file on everything that was decided: what would change, in all and per rule",
        filled_by="services.cli.policy_backtest:fill",
    )
    shadow = action(
        "shadow",
        run_shadow,
        "let a file judge every event beside the policy in force, and decide none",
        "weir policy shadow policy.yaml --why 'stricter at night, to be watched for a week'",
    )
    publish = action(
        "publish",
        run_publish,
        "let a file decide: for a share of the customers, or for all",
        "weir policy publish policy.yaml --percent 10 --why 'stricter at night after case 1187'",
    )
    publish.add_argument(
        "--percent", type=int, default=100, metavar="P", help="share of the customers, 1 to 100 (default: 100)"
    )
    publish.add_argument("--approver", metavar="B", help="who agreed, if the policy in force asks for two people")
    rollback = action(
        "rollback",
        run_rollback,
        "end a rollout, or return to the policy before this one",
        "weir policy rollback --why 'declines doubled'",
    )
    rollback.add_argument("version", nargs="?", metavar="VERSION", help="return to this one instead")
    retire = action(
        "retire",
        run_retire,
        "stop a policy that runs beside or for a share",
        "weir policy retire 2026-11-1a2b3c4d --why 'it says what the old one says'",
    )
    listing = action("list", run_list, "every move, oldest first", "weir policy list --json")
    show = action(
        "show", run_show, "one policy's moves, its last diff and its text", "weir policy show 2026-11-1a2b3c4d"
    )
    for with_version in (retire, show):
        with_version.add_argument("version", metavar="VERSION")
    for with_file in (shadow, publish):
        with_file.add_argument("file", type=Path, metavar="FILE", help="the policy, YAML")
    for moving in (shadow, publish, rollback, retire):
        moving.add_argument("--why", required=True, metavar="TEXT", help="the reason, kept in the journal")
        moving.add_argument("--author", default=None, metavar="A", help="who (default: you)")
    for connected in (shadow, publish, rollback, retire, listing, show):
        add_mesh(connected)
    for every in (shadow, publish, rollback, retire, listing, show):
        add_json(every)


def run_shadow(given: argparse.Namespace) -> int:
    """Run it beside."""
    kafka = endpoints_of(given).kafka
    policy, text = load_file(given.file)
    release = move(kafka, read_book(kafka), policy.version, text, "shadow", why=given.why, author=given.author)
    return _told(given, release["policy_version"], "shadow", "judges every event from the next batch on, decides none")


def run_publish(given: argparse.Namespace) -> int:
    """Check it, then append it to the journal that every decider follows."""
    if not 1 <= given.percent <= 100:
        raise Fatal(f"--percent {given.percent}: write 1 to 100; weir policy rollback ends a rollout")
    kafka = endpoints_of(given).kafka
    policy, text = load_file(given.file)
    move(
        kafka,
        read_book(kafka),
        policy.version,
        text,
        "publish",
        why=given.why,
        author=given.author,
        percent=given.percent,
        approver=given.approver,
    )
    whom = "" if given.percent == 100 else f" for {given.percent}% of the customers"
    return _told(given, policy.version, "publish", f"decides{whom} from the next batch on", given.percent)


def run_rollback(given: argparse.Namespace) -> int:
    """One call: whoever should decide decides again."""
    kafka = endpoints_of(given).kafka
    book = read_book(kafka)
    version = given.version or book.registry.before
    if not version:
        raise Fatal("nothing to return to: the policy in force is the first one; publish another")
    text = book.released(version)["policy"]
    move(kafka, book, version, text, "rollback", why=given.why, author=given.author)
    return _told(given, version, "rollback", "decides for everybody from the next batch on")


def run_retire(given: argparse.Namespace) -> int:
    """Stop one that runs beside."""
    kafka = endpoints_of(given).kafka
    book = read_book(kafka)
    if not book.role(given.version):
        book.released(given.version)
        raise Fatal(f"policy {given.version} does nothing that could be stopped; see weir policy list")
    move(kafka, book, given.version, "", "retire", why=given.why, author=given.author)
    return _told(given, given.version, "retire", "no longer runs")


def run_list(given: argparse.Namespace) -> int:
    """The journal."""
    book = read_book(endpoints_of(given).kafka)
    rows = _rows(book)
    if given.json:
        print_json(rows)
        return 0
    for row in rows:
        percent = f" {row['percent']}%" if row["move"] == "publish" and row["percent"] < 100 else ""
        approved = f", approved by {row['approver']}" if row["approver"] else ""
        void = f"  VOID: {row['why_void']}" if row["why_void"] else ""
        print_line(
            f"{row['policy_version']:32} {row['move'] + percent:12} {shown_time(row['published_ms'])}  "
            f"{row['author']}: {row['why']}{approved}{void}"
        )
    for version in dict.fromkeys(row["policy_version"] for row in rows):
        if role := book.role(version):
            print_line(f"now: {version} {role}")
    return 0


def run_show(given: argparse.Namespace) -> int:
    """One version, whole."""
    book = read_book(endpoints_of(given).kafka)
    text = book.released(given.version)["policy"]
    rows = [row for row in _rows(book) if row["policy_version"] == given.version]
    diff = next((row["diff"] for row in reversed(rows) if row["diff"]), "")
    if given.json:
        print_json({"policy_version": given.version, "role": book.role(given.version), "moves": rows, "policy": text})
        return 0
    print_line(f"{given.version} {book.role(given.version) or 'does nothing now'}")
    for row in rows:
        print_line(f"{row['move']:10} {shown_time(row['published_ms'])}  {row['author']}: {row['why']}")
    for part in (diff, text):
        if part:
            print_line("")
            print_line(part.rstrip("\n"))
    return 0


def _rows(book: Book) -> list[dict[str, Any]]:
    latest = {entry.release["policy_version"]: entry for entry in book.entries if not entry.why_void}
    return [
        {
            **{name: value for name, value in entry.release.items() if name != "policy"},
            "published_ms": entry.record.append_time_ms,
            "offset": entry.record.offset,
            "why_void": entry.why_void,
            "in_force": entry is latest.get(book.registry.in_force),
        }
        for entry in book.entries
    ]


def _told(given: argparse.Namespace, version: str, kind: PolicyMove, text: str, percent: int | None = None) -> int:
    if given.json:
        print_json({"policy_version": version, "move": kind, **({} if percent is None else {"percent": percent})})
    else:
        print_line(f"{version} {text}")
    return 0

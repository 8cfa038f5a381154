"""``weir policy shadow|publish|rollback|retire|list|show``: which policies are at work, which were, and moving them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from services.cli.policy_file import load_file
from services.cli.policy_journal import Book, move, read_book
from services.cli.shared import add_json, add_mesh, endpoints_of, print_json, print_line, shown_time
from services.mesh.errors import Fatal
from services.mesh.records import PolicyMove


def fill_shadow(parser: argparse.ArgumentParser) -> None:
    """``weir policy shadow``."""
    parser.set_defaults(run=run_shadow)
    parser.epilog = "example: weir policy shadow policy.yaml --why 'stricter at night, to be watched for a week'"
    _add_file(parser)
    _add_move(parser)


def fill_publish(parser: argparse.ArgumentParser) -> None:
    """``weir policy publish``."""
    parser.set_defaults(run=run_publish)
    parser.epilog = "example: weir policy publish policy.yaml --percent 10 --why 'stricter at night after case 1187'"
    parser.add_argument(
        "--percent", type=int, default=100, metavar="P", help="share of the customers, 1 to 100 (default: 100)"
    )
    parser.add_argument("--approver", metavar="B", help="who agreed, if the policy in force asks for two people")
    _add_file(parser)
    _add_move(parser)


def fill_rollback(parser: argparse.ArgumentParser) -> None:
    """``weir policy rollback``."""
    parser.set_defaults(run=run_rollback)
    parser.epilog = "example: weir policy rollback --why 'declines doubled'"
    parser.add_argument("version", nargs="?", metavar="VERSION", help="return to this one instead")
    _add_move(parser)


def fill_retire(parser: argparse.ArgumentParser) -> None:
    """``weir policy retire``."""
    parser.set_defaults(run=run_retire)
    parser.epilog = "example: weir policy retire 2026-11-1a2b3c4d --why 'it says what the old one says'"
    parser.add_argument("version", metavar="VERSION")
    _add_move(parser)


def fill_list(parser: argparse.ArgumentParser) -> None:
    """``weir policy list``."""
    parser.set_defaults(run=run_list)
    parser.epilog = "example: weir policy list --json"
    add_mesh(parser)
    add_json(parser)


def fill_show(parser: argparse.ArgumentParser) -> None:
    """``weir policy show``."""
    parser.set_defaults(run=run_show)
    parser.epilog = "example: weir policy show 2026-11-1a2b3c4d"
    parser.add_argument("version", metavar="VERSION")
    add_mesh(parser)
    add_json(parser)


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="the policy, YAML")


def _add_move(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--why", required=True, metavar="TEXT", help="the reason, kept in the journal")
    parser.add_argument("--author", default=None, metavar="A", help="who (default: you)")
    add_mesh(parser)
    add_json(parser)


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

"""``weir audit``: who did what, when and why."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from services.cli.shared import add_json, add_mesh, endpoints_of, print_json, print_line, shown_time
from services.mesh.adapters.log_reader import journal
from services.mesh.errors import Fatal
from services.mesh.topics import AUDIT

_SHOWN_DETAIL_MAX: Final = 160


def fill(parser: argparse.ArgumentParser) -> None:
    """``weir audit``."""
    parser.epilog = "example: weir audit list --subject case:1f0c5e0b9a4d7e21"
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser(
        "list",
        help="entries, the newest last",
        description="Claims, verdicts, what the review service did by itself, moves of policies and models, requeued "
        "dead letters, sign-ins. The whole trail is kept for ever.",
        epilog="example: weir audit list --actor vera --action review. --limit 100",
    )
    listing.add_argument("--subject", metavar="KIND:ID", help="on this subject, or of this kind with KIND:")
    listing.add_argument("--actor", metavar="NAME", help="by this person or service")
    listing.add_argument("--action", metavar="PREFIX", help="actions that begin so, such as review. or policy.publish")
    listing.add_argument("--limit", type=int, default=50, metavar="N", help="the newest so many (default: 50)")
    listing.set_defaults(run=run_list)
    add_mesh(listing)
    add_json(listing)


def run_list(given: argparse.Namespace) -> int:
    """Entries in the order of the log."""
    if given.limit < 1:
        raise Fatal(f"--limit={given.limit}: must be at least 1")
    entries = (entry for _, entry in journal(endpoints_of(given).kafka, AUDIT))
    found = list(chosen(entries, given.subject, given.actor, given.action))[-given.limit :]
    if given.json:
        print_json([entry | {"detail": json.loads(entry["detail"])} for entry in found])
        return 0
    for entry in found:
        print_line(_line(entry))
    if not found:
        print_line("no entries")
    return 0


def chosen(
    entries: Iterable[Mapping[str, Any]], subject: str | None, actor: str | None, action: str | None
) -> Iterator[dict[str, Any]]:
    """Those that were asked for, each once: an entry whose sending was repeated has one id."""
    seen: set[str] = set()
    for entry in entries:
        if entry["audit_id"] in seen:
            continue
        seen.add(entry["audit_id"])
        on_subject = subject is None or entry["subject"] == subject
        of_kind = subject is not None and subject.endswith(":") and entry["subject"].startswith(subject)
        if (on_subject or of_kind) and actor in (None, entry["actor"]) and entry["action"].startswith(action or ""):
            yield dict(entry)


def _line(entry: Mapping[str, Any]) -> str:
    detail = entry["detail"] if entry["detail"] != "{}" else ""
    if len(detail) > _SHOWN_DETAIL_MAX:
        detail = detail[:_SHOWN_DETAIL_MAX] + "…"
    why = f'  "{entry["why"]}"' if entry["why"] else ""
    return (
        f"{shown_time(entry['time_ms'])}  {entry['actor']} ({entry['role']}, {entry['origin']})  {entry['action']}  "
        f"{entry['subject']}{why}  {detail}"
    ).rstrip()

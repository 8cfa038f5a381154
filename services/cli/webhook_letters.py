"""``weir webhooks dead`` and ``redeliver``: decisions that a receiver refused, and sending them once more.

A dead letter stays in the log. That it was redelivered is in the audit trail, which both commands read; a redelivery
has the id of the first try, so a receiver that had taken it after all drops it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

from services.cli.acting import user_name
from services.cli.audit_trail import audit
from services.cli.shared import add_file, add_json, add_mesh, endpoints_of, file_of, print_json, print_line, shown_time
from services.mesh.adapters.log_reader import LogReader, journal
from services.mesh.codec import Codec
from services.mesh.errors import Fatal, Poison
from services.mesh.hops import cause_of
from services.mesh.lookup_entries import last_header
from services.mesh.ports import InRecord
from services.mesh.prefix import ids_of
from services.mesh.topics import AUDIT, DEAD_LETTERS, DECISIONS
from services.mesh.topology import WEBHOOKS
from services.webhooks.desk import DECIDED_HEADER, WEBHOOK_HEADER
from services.webhooks.message import body_of, message_id_of
from services.webhooks.settings import FILE_NAME
from services.webhooks.subscription import Subscription
from services.webhooks.subscription_file import load_subscriptions
from services.webhooks.verdict import Answer, Verdict

_REDELIVER = "webhook.redeliver"
_TOLD_TOGETHER = 500  # message ids in one entry of the audit trail
_FAILURES_MAX = 5  # in a row: the receiver is down, and a person who looks on is not kept waiting


class Letter(NamedTuple):
    """One decision that was given up."""

    name: str  # of the webhook
    message_id: str
    event_id: str
    customer_id: str
    record: InRecord

    def plain(self, *, redelivered: bool) -> dict[str, Any]:
        """As JSON takes it."""
        cause = cause_of(self.record)
        return {
            "webhook": self.name,
            "message_id": self.message_id,
            "event_id": self.event_id,
            "customer_id": self.customer_id,
            "error_code": cause["error_code"],
            "error_message": cause["error_message"],
            "given_up_ms": self.record.append_time_ms,
            "dead_letter": f"{self.record.partition}:{self.record.offset}",
            "decision": f"{cause['origin_partition']}:{cause['origin_offset']}",
            "redelivered": redelivered,
        }


def fill_dead(parser: argparse.ArgumentParser) -> None:
    """``weir webhooks dead``."""
    parser.epilog = "example: weir webhooks dead bank"
    parser.set_defaults(run=run_dead)
    _add_common(parser)
    parser.add_argument("--all", action="store_true", help="those that were redelivered since, too")


def fill_redeliver(parser: argparse.ArgumentParser) -> None:
    """``weir webhooks redeliver``."""
    parser.epilog = "example: weir webhooks redeliver bank e-17"
    parser.set_defaults(run=run_redeliver)
    _add_common(parser)
    parser.add_argument("event", metavar="EVENT", nargs="?", help="of this event only, redelivered before or not")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be sent")


def _add_common(parser: argparse.ArgumentParser) -> None:
    add_mesh(parser)
    add_json(parser)
    add_file(parser, FILE_NAME)
    parser.add_argument("name", metavar="NAME", nargs="?", help="of this webhook only")


def run_dead(given: argparse.Namespace) -> int:
    """The newest first."""
    kafka = endpoints_of(given).kafka
    done = _redelivered(kafka)
    found = [letter for letter in _letters(kafka, given.name) if given.all or letter.message_id not in done]
    found.sort(key=lambda letter: -letter.record.append_time_ms)
    if given.json:
        print_json([letter.plain(redelivered=letter.message_id in done) for letter in found])
        return 0
    for letter in found:
        cause = cause_of(letter.record)
        mark = "  redelivered" if letter.message_id in done else ""
        print_line(
            f"{letter.name}  {letter.event_id}  {letter.customer_id}  {shown_time(letter.record.append_time_ms)}  "
            f"{cause['error_code']}  {cause['error_message']}{mark}"
        )
    if not found:
        print_line("nothing was given up" if given.all else "nothing is given up that was not redelivered (--all)")
    return 0


def run_redeliver(given: argparse.Namespace) -> int:
    """Send what was chosen once more, one try each; 1 when something was not taken."""
    kafka = endpoints_of(given).kafka
    subscriptions = load_subscriptions(file_of(given))
    done = set() if given.event else _redelivered(kafka)
    chosen = {
        letter.message_id: letter  # the latest of one message
        for letter in _letters(kafka, given.name)
        if letter.message_id not in done and given.event in (None, letter.event_id)
    }
    if given.event and not chosen:
        raise Fatal(f"event {given.event}: no webhook has given it up; `weir webhooks dead --all` lists what there is")
    by_name: dict[str, list[Letter]] = {}
    for letter in chosen.values():
        by_name.setdefault(letter.name, []).append(letter)
    taken: list[Letter] = []
    failed: list[tuple[Letter, Answer]] = []
    for name, letters in by_name.items():
        if given.dry_run:
            continue
        went, did_not = asyncio.run(_sent(subscriptions.named(name), letters))
        taken, failed = taken + went, failed + did_not
        _tell(kafka, name, went)
    if given.json:
        print_json({
            "dry_run": given.dry_run,
            "chosen": len(chosen),
            "taken": [letter.message_id for letter in taken],
            "failed": [letter.plain(redelivered=False) | {"answer": str(answer)} for letter, answer in failed],
        })  # fmt: skip
        return 1 if failed else 0
    if given.dry_run:
        print_line(f"{len(chosen):,} would be sent once more")
        return 0
    print_line(f"{len(taken):,} of {len(chosen):,} taken")
    for letter, answer in failed:
        sys.stderr.write(f"weir: webhook {letter.name}, event {letter.event_id}: {answer}\n")
    return 0 if len(taken) == len(chosen) else 1


async def _sent(one: Subscription, letters: Iterable[Letter]) -> tuple[list[Letter], list[tuple[Letter, Answer]]]:
    """One after the other, in the order of the log; ends when the receiver is down."""
    from services.cli.webhook_trial import poster_of  # a client for HTTP: who only lists needs none

    taken, failed, in_a_row = list[Letter](), list[tuple[Letter, Answer]](), 0
    poster, codec = poster_of(one), Codec(DECISIONS.schemas[0])
    try:
        for letter in letters:
            try:
                answer = await poster.post(letter.message_id, body_of(_decision(letter.record), codec))
            except Poison as poison:
                answer = Answer(text=str(poison))
            if answer.verdict is Verdict.TAKEN:
                taken.append(letter)
                in_a_row = 0
                continue
            failed.append((letter, answer))
            in_a_row += answer.verdict is not Verdict.REFUSED
            if in_a_row >= _FAILURES_MAX:
                break
    finally:
        await poster.close()
    return taken, failed


def _decision(letter: InRecord) -> InRecord:
    """The record as it lay in its topic: what is sent is what the first try sent."""
    cause = cause_of(letter)
    at_ms = last_header(letter.headers, DECIDED_HEADER).decode(errors="replace")
    return letter._replace(
        topic=cause["origin_topic"],
        partition=int(cause["origin_partition"]),
        offset=int(cause["origin_offset"]),
        append_time_ms=int(at_ms) if at_ms.isdecimal() else letter.append_time_ms,
    )


def _letters(kafka: str, name: str | None) -> list[Letter]:
    """Every decision that webhooks have given up, in the order of the log."""
    log, found = LogReader(kafka), list[Letter]()
    for record in log.read(log.starts(DEAD_LETTERS), log.ends(DEAD_LETTERS)):
        whose = last_header(record.headers, WEBHOOK_HEADER).decode(errors="replace")
        if cause_of(record)["stage"] != WEBHOOKS.name or name not in (None, whose):
            continue
        try:
            event_id, customer_id = ids_of(record.value or b"")
        except ValueError:
            continue  # no decision: `weir dead-letters show` has it, nothing can send it
        message_id = message_id_of(whose, record.value or b"")
        found.append(Letter(whose, message_id, event_id.decode(), customer_id.decode(), record))
    return sorted(found, key=lambda letter: (letter.record.partition, letter.record.offset))


def _redelivered(kafka: str) -> set[str]:
    """Messages that were taken at a redelivery."""
    entries = (entry for _, entry in journal(kafka, AUDIT) if entry["action"] == _REDELIVER)
    return {message_id for entry in entries for message_id in json.loads(entry["detail"]).get("message_ids", ())}


def _tell(kafka: str, name: str, letters: list[Letter]) -> None:
    for first in range(0, len(letters), _TOLD_TOGETHER):
        ids = [letter.message_id for letter in letters[first : first + _TOLD_TOGETHER]]
        audit(kafka, _REDELIVER, f"webhook:{name}", actor=user_name("webhooks"), detail={"message_ids": ids})

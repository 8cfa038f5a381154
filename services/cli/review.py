"""``weir review``: the queue of cases that people look into, from a terminal."""

from __future__ import annotations

import argparse
from typing import Any

from services.cli.acting import ORIGIN, add_person, person_of, wall_ms
from services.cli.shared import add_json, add_mesh, endpoints_of, print_json, print_line, shown_time
from services.mesh.adapters.redis_review import RedisReviewQueue
from services.mesh.adapters.redis_store import connect
from services.mesh.currency import EXPONENTS
from services.mesh.errors import Fatal
from services.mesh.review import SHELVES, Filed, Person
from services.mesh.review_desk import ReviewDesk, Step

_ANSWER_WAIT_S = 5.0  # a person can wait longer than a stage
_MINUTE_MS = 60_000


def fill(parser: argparse.ArgumentParser) -> None:
    """``weir review``."""
    parser.description = (
        "Cases wait in the order of their expected loss. Claim one, look, tell a verdict with a reason: it "
        "becomes an outcome like a chargeback does, and with it a label."
    )
    parser.epilog = (
        "example: weir review claim && weir review verdict 1f0c5e0b9a4d7e21 fraud --why 'card reported stolen'"
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="cases in order", epilog="example: weir review list --shelf escalated")
    listing.add_argument("--shelf", choices=(*SHELVES, "all"), help="only these (default: open and escalated)")
    listing.add_argument("--mine", action="store_true", help="those that you hold")
    listing.add_argument("--limit", type=int, default=20, metavar="N", help="at most so many (default: 20)")
    listing.set_defaults(run=run_list)
    show = actions.add_parser("show", help="one case, whole", epilog="example: weir review show 1f0c5e0b9a4d7e21")
    show.set_defaults(run=run_show)
    claim = actions.add_parser(
        "claim",
        help="take the best case, or the one that you name, for a quarter of an hour; again: renews it",
        epilog="example: weir review claim --as vera",
    )
    claim.add_argument("case", metavar="CASE", nargs="?", help="as `list` prints it (default: the best that is free)")
    claim.set_defaults(run=run_claim)
    release = actions.add_parser("release", help="give it back", epilog="example: weir review release 1f0c5e0b9a4d7e21")
    release.add_argument("--why", default="", metavar="TEXT", help="kept in the audit trail")
    release.set_defaults(run=run_release)
    verdict = actions.add_parser(
        "verdict",
        help="say what it was; you must hold it",
        description="At or above the value that asks for four eyes the first verdict is an opinion, and somebody else "
        "has to agree; where two disagree, a supervisor decides.",
        epilog="example: weir review verdict 1f0c5e0b9a4d7e21 genuine --why 'customer confirmed by phone'",
    )
    verdict.set_defaults(run=run_verdict)
    rebuild = actions.add_parser(
        "rebuild",
        help="throw the queue away; the service writes it anew from the log, claims are lost",
        epilog="example: weir review rebuild",
    )
    rebuild.set_defaults(run=run_rebuild)
    for action in (show, release, verdict):
        action.add_argument("case", metavar="CASE", help="as `list` prints it")
    verdict.add_argument("verdict", choices=("fraud", "genuine"))
    verdict.add_argument("--why", required=True, metavar="TEXT", help="what you saw; kept in the audit trail")
    for action in (listing, show, claim, release, verdict, rebuild):
        add_mesh(action)
        add_json(action)
    for action in (listing, claim, release, verdict):
        add_person(action)
    for action in (claim, release, verdict):
        action.add_argument("--role", choices=("analyst", "supervisor"), default="analyst", help="(default: analyst)")


def run_list(given: argparse.Namespace) -> int:
    """The most costly first."""
    if given.limit < 1:
        raise Fatal(f"--limit={given.limit}: must be at least 1")
    now_ms, desk = wall_ms(), _desk(given)
    mine = person_of(given) if given.mine else ""
    shelves = {None: ("open", "escalated"), "all": SHELVES}.get(given.shelf, (given.shelf,))
    found = desk.cases(shelves, mine=mine, now_ms=now_ms, count=given.limit)
    if given.json:
        print_json({"counts": desk.counts(), "cases": [described(filed, now_ms) for filed in found]})
        return 0
    for filed in found:
        print_line(_line(filed, now_ms))
    print_line(", ".join(f"{count:,} {shelf}" for shelf, count in desk.counts().items()))
    return 0


def run_show(given: argparse.Namespace) -> int:
    """One case."""
    now_ms = wall_ms()
    filed = _desk(given).case(given.case)
    if given.json:
        print_json(described(filed, now_ms))
    else:
        _show(filed, now_ms)
    return 0


def run_claim(given: argparse.Namespace) -> int:
    """Take a case."""
    now_ms = wall_ms()
    step = _desk(given).claim(given.case, _person(given), now_ms)
    _send(given, step)
    return _done(given, step.filed, now_ms, show=True)


def run_release(given: argparse.Namespace) -> int:
    """Give a case back."""
    now_ms = wall_ms()
    step = _desk(given).release(given.case, _person(given), now_ms, given.why)
    _send(given, step)
    return _done(given, step.filed, now_ms)


def run_verdict(given: argparse.Namespace) -> int:
    """Queue, log, queue: see ``services/mesh/review_desk.py``."""
    now_ms, desk = wall_ms(), _desk(given)
    step = desk.judge(given.case, _person(given), given.verdict, given.why, now_ms)
    _send(given, step)
    return _done(given, desk.finish(step), now_ms)


def run_rebuild(given: argparse.Namespace) -> int:
    """The service notices within a second."""
    RedisReviewQueue(connect(endpoints_of(given).redis, _ANSWER_WAIT_S)).clear()
    if given.json:
        print_json({"cleared": True})
    else:
        print_line("the queue is empty; the review service writes it anew from its log")
    return 0


def described(filed: Filed, now_ms: int) -> dict[str, Any]:
    """A case for machines."""
    case = filed.case
    return {
        "case_id": case.case_id,
        "shelf": filed.shelf,
        "event_id": case.event_id,
        "customer_id": case.customer_id,
        **case.opened,
        "held_by": filed.holder(now_ms),
        "held_until_ms": filed.claim.until_ms if filed.claim and filed.holder(now_ms) else None,
        "opinions": [
            {"analyst": one.analyst, "verdict": one.verdict, "why": one.why, "time_ms": one.time_ms}
            for one in case.opinions
        ],
        "is_overdue": case.is_overdue,
        "is_disputed": case.is_disputed,
        "default_action": case.default_action,
        "resolution": case.resolution,
        "verdict": case.verdict,
        "outcome_id": case.outcome_id,
    }


def _desk(given: argparse.Namespace) -> ReviewDesk:
    return ReviewDesk(RedisReviewQueue(connect(endpoints_of(given).redis, _ANSWER_WAIT_S)), ORIGIN)


def _person(given: argparse.Namespace) -> Person:
    return Person(person_of(given), given.role)


def _send(given: argparse.Namespace, step: Step) -> None:
    if step.records:
        from services.mesh.adapters.kafka_records import RecordSender  # a client of the log: looking needs none

        with RecordSender(endpoints_of(given).kafka, "weir.cli.review") as sender:
            sender.send(step.records)


def _done(given: argparse.Namespace, filed: Filed, now_ms: int, *, show: bool = False) -> int:
    if given.json:
        print_json(described(filed, now_ms))
    elif show:
        _show(filed, now_ms)
    else:
        print_line(_line(filed, now_ms))
    return 0


def _line(filed: Filed, now_ms: int) -> str:
    opened = filed.case.opened
    left = (opened["due_time_ms"] - now_ms) // _MINUTE_MS
    due = f"due in {left} min" if left >= 0 else f"due {-left} min ago"
    holder = filed.holder(now_ms)
    reason = next((reason["text"] for reason in opened["reasons"]), "")
    ending = f"{filed.case.resolution} {filed.case.verdict or ''}".strip() if filed.case.resolution else due
    whose = f"  {holder}'s" if holder else ""
    loss, value = (_money(opened[name], opened["house_currency"]) for name in ("expected_loss_minor", "value_minor"))
    return f"{filed.case.case_id}  {filed.shelf:10} loss {loss} of {value}  {ending}{whose}  {reason}".rstrip()


def _show(filed: Filed, now_ms: int) -> None:
    case, opened = filed.case, filed.case.opened
    print_line(_line(filed, now_ms))
    eyes = "two people have to agree" if opened["verdicts_needed"] > 1 else "one verdict is enough"
    for name, text in (
        ("event", f"{case.event_id} of {case.customer_id} at {opened['terminal_id']}"),
        ("happened", shown_time(opened["event_time_ms"])),
        ("amount", _money(opened["amount_minor"], opened["currency"])),
        ("where", " ".join(part for part in (opened["channel"], opened["country"]) if part) or "not told"),
        ("score", f"{opened['score']:.4f} by {opened['model_version']} (features {opened['feature_status']})"),
        ("policy", f"{opened['policy_version']}: {', '.join(opened['rule_hits']) or 'no rule, the score'}"),
        *(("reason", f"{reason['code']}: {reason['text']}") for reason in opened["reasons"]),
        ("eyes", eyes),
        *(("opinion", f"{one.verdict}, says {one.analyst}: {one.why}") for one in case.opinions),
        ("more", f"weir trace {case.event_id}"),
    ):
        print_line(f"  {name:9} {text}")


def _money(minor: int, currency: str) -> str:
    exponent = EXPONENTS.get(currency, 2)
    return f"{minor / 10**exponent:,.{exponent}f} {currency}"

"""``weir send``: a file's events into the running mesh, once more."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from typing import Any

from services.cli.shared import add_json, add_mesh, endpoints_of, print_json, print_line
from services.mesh.errors import Fatal
from services.simulator.sources import open_source
from services.simulator.speed import parse_duration_s, parse_speed

_STOP_S_MAX = 12.0  # the sender gives itself 10


def fill(parser: argparse.ArgumentParser) -> None:
    """``weir send``."""
    parser.description = (
        "Sends every event of FILE, from its first, as an outside producer would. Sending a file twice "
        "sends it twice: what was accepted before is then a repeat, which gets no second decision."
    )
    parser.epilog = "example: weir send payments.jsonl --speed 500/s"
    add_mesh(parser)
    add_json(parser)
    parser.add_argument("file", metavar="FILE", help=".parquet, .jsonl or .csv")
    parser.add_argument("--speed", default="max", help="max, a factor of event time such as 60, or N/s (default: max)")
    parser.add_argument(
        "--for", dest="for_", metavar="SECONDS", help="stop sending after this long, such as 240 or 10m"
    )
    parser.add_argument(
        "--label-delay",
        default="7d",
        help="event time until a payment's outcome is sent, if FILE has any (default: 7d)",
    )
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Check, send in a process of its own, say how many were sent."""
    parse_speed(given.speed)
    delay_s = parse_duration_s(given.label_delay, "--label-delay")
    if given.for_ is not None:
        parse_duration_s(given.for_, "--for")
    open_source(given.file, round(delay_s * 1_000))
    argv = [sys.executable, "-m", "services.simulator", "--kafka", endpoints_of(given).kafka, "--input", given.file]
    argv += ["--speed", given.speed, "--label-delay", given.label_delay]
    argv += ["--for", given.for_] if given.for_ is not None else []
    report, status = _send(argv, show=sys.stderr.isatty() and not given.json)
    if not report:
        raise Fatal(f"nothing was sent: the sender ended with exit status {status}")
    counts = {name: int(report[name]) for name in ("sent", "acknowledged", "failed", "outcomes")}
    if given.json:
        print_json(counts)
    else:
        print_line(
            f"sent {counts['sent']:,} events, {counts['acknowledged']:,} acknowledged by the broker; "
            f"{counts['outcomes']:,} outcomes"
        )
    is_complete = status == 0 and counts["acknowledged"] == counts["sent"]
    return 0 if is_complete else 1


def _send(argv: list[str], *, show: bool) -> tuple[dict[str, Any], int]:
    """The sender's last report, and its exit status. Ctrl-C ends it in order."""
    report: dict[str, Any] = {}
    # A session of its own: Ctrl-C reaches it once, from us.
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, start_new_session=True) as sender:
        assert sender.stdout is not None
        try:
            for line in sender.stdout:
                report = _report(line) or report
                if show and report:
                    total = f" of {report['total']:,}" if report.get("total") else ""
                    sys.stderr.write(f"\rsent {report['sent']:,}{total} ")
                    sys.stderr.flush()
        except KeyboardInterrupt:
            sender.send_signal(signal.SIGTERM)
            rest, _ = sender.communicate(timeout=_STOP_S_MAX)
            for line in rest.splitlines():
                report = _report(line) or report
        finally:
            if sender.poll() is None and sys.exc_info()[0] is not None:
                sender.kill()
        if show:
            sys.stderr.write("\r\x1b[K")
        return report, sender.wait()


def _report(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "sent" in found else None

"""What analysts' feedback is worth: ``python -m loadtests.loop_quality --input payments.parquet --reviewed 0,100``.

Runs the main job once for each number of customers reviewed a day, and prints the average precision of the recorded
online scores over the last three weeks beside that of an offline model trained with the same data and delays, both with
their population (``services/platform/quality.py``). Exit status 1 when online is further than 0.01 below offline, or
when the most reviewed run gains less than 0.03 over the least; ``--no-gate`` only prints.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BEHIND_MAX, GAIN_MIN = 0.01, 0.03


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when both targets hold in every run."""
    given = _parser().parse_args(arguments)
    reviewed = [int(part) for part in given.reviewed.split(",")]
    found: dict[int, dict[str, Any]] = {}
    for customers in reviewed:
        with tempfile.TemporaryDirectory(prefix="weir-quality-") as folder:
            quality = _run(given, customers, Path(given.data_dir or folder) / f"reviewed-{customers}")
        if quality is None:
            return 1
        found[customers] = quality
        print(
            f"reviewed {customers:>4} a day: average precision online {quality['average_precision_online']:.4f}, "
            f"offline {quality['average_precision_offline']:.4f}; {quality['population']}",
            flush=True,
        )
    online = {customers: float(quality["average_precision_online"]) for customers, quality in found.items()}
    behind = max(float(quality["average_precision_offline"]) - online[n] for n, quality in found.items())
    gain = online[max(online)] - online[min(online)]
    print(f"online behind offline by at most {behind:+.4f} (at most {BEHIND_MAX} is asked)")
    if len(online) > 1:
        print(f"{max(online)} reviewed over {min(online)}: {gain:+.4f} (at least {GAIN_MIN} is asked)")
    holds = behind <= BEHIND_MAX and (len(online) == 1 or gain >= GAIN_MIN)
    return 0 if holds or given.no_gate else 1


def _run(given: argparse.Namespace, customers: int, folder: Path) -> dict[str, Any] | None:
    """The main job; what its summary says of quality, None when it failed or says nothing."""
    argv = [sys.executable, "-m", "services.cli", "up", "--data-dir", str(folder), "--input", given.input]
    argv += ["--speed", "max", "--label-delay", given.label_delay, "--reviewed", str(customers)]
    status = subprocess.run(argv, check=False, stdout=None if given.verbose else subprocess.DEVNULL).returncode
    summary = folder / "summary.json"
    if status != 0 or not summary.exists():
        print(f"reviewed {customers} a day: the run ended with status {status}; see {folder / 'logs'}", flush=True)
        return None
    quality: dict[str, Any] | None = json.loads(summary.read_text()).get("quality")
    if quality is None:
        print(f"{given.input}: tells no truth (is_fraud), or is shorter than what a first model needs", flush=True)
    return quality


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.loop_quality",
        description="Average precision online and offline over the last three weeks, with and without analysts.",
        epilog="example: python -m loadtests.loop_quality --input payments.parquet --reviewed 0,100",
    )
    parser.add_argument("--input", required=True, metavar="FILE", help=".parquet, .jsonl or .csv with is_fraud")
    parser.add_argument("--reviewed", default="0,100", help="customers a day, one run each (default: 0,100)")
    parser.add_argument("--label-delay", default="7d", help="event time until an outcome is known (default: 7d)")
    parser.add_argument("--data-dir", metavar="D", help="keep the runs here (default: a temporary directory)")
    parser.add_argument("--verbose", action="store_true", help="show what the runs say")
    parser.add_argument("--no-gate", action="store_true", help="print, and end with 0 whatever comes out")
    return parser


if __name__ == "__main__":
    sys.exit(main())

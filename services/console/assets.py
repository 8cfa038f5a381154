"""The page's own files, read once: nothing is served that is not in this list."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from services.mesh.errors import Fatal

TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
CHART: Final = "chart.umd.js"


@dataclass(frozen=True, slots=True)
class Asset:
    """One file."""

    content: bytes
    media_type: str
    tag: str  # changes with the content


def read_assets(chart_file: Path) -> Mapping[str, Asset]:
    """By name; Fatal when Chart.js is not where it should be."""
    found = _walk(files("services.console").joinpath("static"), "")
    try:
        found[CHART] = _asset(CHART, chart_file.read_bytes())
    except OSError as error:
        raise Fatal(f"WEIR_CHART_FILE={chart_file}: {error.strerror}; `make setup` fetches it through Maven") from error
    return found


def _walk(directory: Traversable, prefix: str) -> dict[str, Asset]:
    found: dict[str, Asset] = {}
    for entry in directory.iterdir():
        name = f"{prefix}{entry.name}"
        if entry.is_dir():
            found |= _walk(entry, f"{name}/")
        elif Path(name).suffix in TYPES:
            found[name] = _asset(name, entry.read_bytes())
    return found


def _asset(name: str, content: bytes) -> Asset:
    return Asset(content, TYPES[Path(name).suffix], f'"{hashlib.sha256(content).hexdigest()[:16]}"')

"""What the commands share: where the running mesh is, and how numbers and times are shown."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services.cli.late_parser import LateParser
from services.mesh.errors import Fatal, WeirError
from services.platform.endpoints import Endpoints

DATA_DIR_DEFAULT = "data"
EXIT_ERROR = 1


def run(given: argparse.Namespace) -> int:
    """Run the command that was asked for; its exit status. What refuses it is one line for people."""
    try:
        return int(given.run(given))
    except WeirError as error:
        sys.stderr.write(f"weir: {error}\n")
        return EXIT_ERROR


def run_alone(name: str, fill: Callable[[LateParser], None]) -> int:
    """One command without the others, which need more than a container of one service holds."""
    parser = LateParser(prog=f"python -m services.cli.{name}")
    fill(parser)
    return run(parser.parse_args())


def add_mesh(parser: argparse.ArgumentParser) -> None:
    """The option that says which running mesh is meant."""
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=Path(DATA_DIR_DEFAULT),
        metavar="D",
        help=f"data directory of the running mesh (default: {DATA_DIR_DEFAULT})",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="for machines")


def add_file(parser: argparse.ArgumentParser, name: str) -> None:
    """``--file``, for one called ``name`` that lies in the data directory unless told otherwise."""
    parser.add_argument("--file", type=Path, metavar="F", help=f"instead of {name} in the data directory")
    parser.set_defaults(file_name=name)


def file_of(given: argparse.Namespace) -> Path:
    """The file that ``add_file`` lets people name. Raises Fatal."""
    if given.file is not None:
        return Path(given.file)
    data_dir: Path = given.data_dir
    # A directory that holds anything but a mesh's own files is not taken by `weir up`.
    if not (data_dir / "format").exists():
        raise Fatal(
            f"{data_dir} is no data directory of a mesh: start one there first (weir up), or name it: --data-dir"
        )
    return data_dir / str(given.file_name)


def endpoints_of(given: argparse.Namespace) -> Endpoints:
    """Where the mesh answers; Fatal when none runs on the data directory."""
    return Endpoints.read(given.data_dir)


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, default=_jsonable) + "\n")


def plain(record: Any) -> dict[str, Any]:
    """A dataclass as JSON takes it. (``dataclasses.asdict`` turns a Counter's keys into pairs.)"""
    return {field.name: _plain(getattr(record, field.name)) for field in dataclasses.fields(record)}


def print_line(text: str = "") -> None:
    """One line on standard output."""
    sys.stdout.write(text + "\n")


def shown_time(time_ms: int) -> str:
    """UTC, to the millisecond."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.") + f"{time_ms % 1000:03d}"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return plain(value) if dataclasses.is_dataclass(value) else value


def _jsonable(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"{type(value).__name__} has no JSON form")

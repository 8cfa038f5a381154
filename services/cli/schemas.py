"""``weir schemas``: register the contracts of every topic, pin their ids, see what is registered."""

from __future__ import annotations

import argparse
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastavro.schema import parse_schema

from services.cli.shared import add_json, add_mesh, endpoints_of, print_json, print_line
from services.mesh.adapters.registry import Registry
from services.mesh.codec import pinned_ids, schema
from services.mesh.errors import Fatal
from services.mesh.topics import TOPICS
from services.platform.contracts import pin_text, register_schemas
from services.platform.files import write_atomically


def fill(parser: argparse.ArgumentParser) -> None:
    """``weir schemas``."""
    parser.epilog = "example: weir schemas list"
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    register = actions.add_parser(
        "register",
        help="register every schema of schemas/ (what the deploy step does)",
        description="Refuses what FULL_TRANSITIVE compatibility forbids, and ids other than those in schemas/ids.json.",
        epilog="example: weir schemas register --check",
    )
    either = register.add_mutually_exclusive_group()
    either.add_argument("--pin", action="store_true", help="write the registry's ids to schemas/ids.json")
    either.add_argument("--check", action="store_true", help="register nothing; fail when something differs")
    register.set_defaults(run=run_register)
    listing = actions.add_parser("list", help="subjects, ids and files", epilog="example: weir schemas list --json")
    listing.set_defaults(run=run_list)
    for action in (register, listing):
        add_mesh(action)
        add_json(action)


def run_register(given: argparse.Namespace) -> int:
    """Register, or check that nothing is left to register."""
    found: dict[str, int] = {}
    with Registry(endpoints_of(given).schema_registry) as registry:
        if given.check:
            return _check(registry, given.json)
        ids = register_schemas(registry, note=found.__setitem__ if given.pin else None)
    if given.pin:
        write_atomically(Path(str(files("schemas").joinpath("ids.json"))), pin_text(ids))
    if given.json:
        print_json(ids)
    else:
        print_line(f"{len(ids)} schemas registered" + (", their ids pinned in schemas/ids.json" if given.pin else ""))
    return 0


def run_list(given: argparse.Namespace) -> int:
    """What the registry holds for each topic."""
    rows: list[dict[str, Any]] = []
    with Registry(endpoints_of(given).schema_registry) as registry:
        for topic in TOPICS:
            subject = f"{topic.name}-value"
            pinned = {pinned_ids()[file]: file for file in topic.schemas}
            rows += [{"subject": subject, "id": id_, "file": pinned.get(id_)} for id_ in registry.versions(subject)]
    if given.json:
        print_json(rows)
        return 0
    for row in rows:
        print_line(f"{row['id']:>4}  {row['subject']:28} {row['file'] or '(another version)'}")
    return 0


def _check(registry: Registry, as_json: bool) -> int:
    differences = []
    for topic in TOPICS:
        for file in topic.schemas:
            registered = registry.versions(f"{topic.name}-value")
            id_ = pinned_ids().get(file)
            if id_ not in registered:
                held = ", ".join(map(str, registered)) or "none"
                differences.append(f"schemas/{file}: id {id_} is pinned, {topic.name}-value holds {held}")
            elif not _same(registered[id_], schema(file).text):
                differences.append(f"schemas/{file}: differs from what is registered as id {id_}")
    if as_json:
        print_json({"differences": differences})
    if differences:
        raise Fatal(f"{'; '.join(differences)}; run `weir schemas register`")
    if not as_json:
        print_line("every schema is registered as pinned")
    return 0


def _same(registered: str, ours: str) -> bool:
    """Whether they say the same: a registry may store its own spelling of names."""
    return bool(parse_schema(json.loads(registered)) == parse_schema(json.loads(ours)))

"""``weir features``: what the vector's columns mean; what is known of one entity is in entity_features."""

from __future__ import annotations

import argparse
import json
from importlib.resources import files
from pathlib import Path

from services.cli.late_parser import LateParser
from services.cli.shared import add_json, print_json, print_line
from services.features.declared import DECLARED, declared_features
from services.mesh.errors import Fatal
from services.mesh.feature_set import PINNED, pinned_feature_set
from services.platform.files import write_atomically


def fill(parser: LateParser) -> None:
    """``weir features``."""
    parser.epilog = "example: weir features get customer C42"
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    names = actions.add_parser(
        "names", help="the vector's columns, in order", epilog="example: weir features names --json"
    )
    names.add_argument("--pin", action="store_true", help=f"write schemas/{PINNED}, by which all services know the set")
    names.set_defaults(run=run_names)
    add_json(names)
    actions.add_parser(
        "get",
        help="one entity's windowed features, with their age and the offset that they are exact as of",
        filled_by="services.cli.entity_features:fill",
    )


def run_names(given: argparse.Namespace) -> int:
    """Print them, and pin them when asked."""
    features = declared_features()
    pin = {
        "name": features.name,
        "content_hash": features.content_hash,
        "names": list(features.names),
        "event_only": list(features.event_only),
    }
    if given.pin:
        write_atomically(Path(str(files("schemas").joinpath(PINNED))), json.dumps(pin, indent=2) + "\n")
    if given.json:
        print_json(pin | {"abouts": dict(zip(features.names, features.abouts, strict=True))})
        return 0
    print_line(f"feature set {features.name} {features.content_hash}, {len(features.names)} columns")
    width = max(map(len, features.names))
    for column, (name, about) in enumerate(zip(features.names, features.abouts, strict=True)):
        print_line(f"{column:>3}  {name:{width}}  {about}")
    if not given.pin and pinned_feature_set().content_hash != features.content_hash:
        raise Fatal(
            f"schemas/{PINNED} pins {pinned_feature_set().content_hash}, schemas/{DECLARED} is "
            f"{features.content_hash}: run `weir features names --pin` and deploy every service with it"
        )
    return 0

"""``weir models``: which models were released, why, from what, and which one serves; the moves are in model_moves."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from services.cli.late_parser import LateParser
from services.cli.shared import add_json, add_mesh, endpoints_of, print_json, print_line, shown_time
from services.mesh.adapters.log_reader import journal
from services.mesh.errors import Fatal
from services.mesh.model_registry import Registry
from services.mesh.records import ModelMove
from services.mesh.topics import MODELS
from services.retraining.handover import SNAPSHOT

_HIDDEN = frozenset({"golden", "reference"})  # base64 rows, counts: for machines
_FROM_PARAMETERS = ("snapshot_sha256", "snapshot_rows", "labels_topic", "labels_offsets", "champion")
_FROM_MANIFEST = ("data_hash", "label_cut_off_ms", "rows", "frauds", "code_version", "feature_set", "xgboost_version")
_MOVES: dict[ModelMove, str] = {
    "promote": "let a version serve",
    "rollback": "let a version that was released before serve again; what was promoted since does not come back",
    "challenge": "let a version score beside the champion",
    "canary": "let a version serve some of the customers",
    "retire": "stop a version for good",
}


def fill(parser: LateParser) -> None:
    """``weir models``."""
    parser.epilog = "example: weir models status"
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="every move, oldest first", epilog="example: weir models list --json")
    listing.set_defaults(run=run_list)
    show = actions.add_parser("show", help="one model's manifest", epilog="example: weir models show 20180601-1a2b3c4d")
    show.set_defaults(run=run_show)
    lineage = actions.add_parser(
        "lineage",
        help="what made a model: data, labels, code, features",
        epilog="example: weir models lineage 20180601-1a2b3c4d",
    )
    lineage.set_defaults(run=run_lineage)
    status = actions.add_parser(
        "status", help="who serves, who runs beside, what the tests say", epilog="example: weir models status --json"
    )
    status.set_defaults(run=run_status)
    for action in (show, lineage):
        action.add_argument("version", metavar="VERSION")
    for action in (listing, show, lineage, status):
        add_mesh(action)
        add_json(action)
    for move, text in _MOVES.items():
        actions.add_parser(move, help=text, filled_by="services.cli.model_moves:fill_move").set_defaults(move=move)
    actions.add_parser(
        "verify",
        help="signature, hashes, features, and its answers in a process of its own",
        filled_by="services.cli.model_moves:fill_verify",
    )
    actions.add_parser(
        "train",
        help="train on the labels of the running mesh and let the model run beside the champion",
        filled_by="services.cli.model_moves:fill_train",
    )


def run_list(given: argparse.Namespace) -> int:
    """The journal of models.v1."""
    rows, registry = [], Registry()
    for record, release in journal(endpoints_of(given).kafka, MODELS):
        why_void = registry.apply(release)  # type: ignore[arg-type]
        manifest = json.loads(release["manifest"]) if release["manifest"] else {}
        rows.append(
            {
                "model_version": release["model_version"],
                "move": release["move"],
                "void": why_void,
                "champion": registry.champion,
                "actor": release["actor"],
                "expects": release["expects"],
                "evidence": json.loads(release["evidence"] or "{}"),
                "why": release["why"],
                "event_time_ms": release["event_time_ms"],
                "released_ms": record.append_time_ms,
                "rows": manifest.get("rows"),
                "frauds": manifest.get("frauds"),
                "metrics": manifest.get("metrics", {}),
            }
        )
    if given.json:
        print_json(rows)
        return 0
    for row in rows:
        metrics = " ".join(f"{name} {value:.4g}" for name, value in row["metrics"].items())
        print_line(
            f"{row['model_version']:20} {row['move']:9} event time {shown_time(row['event_time_ms'])}  "
            f"by {row['actor']}: {row['why']}"
            + (f"  (void: {row['void']})" if row["void"] else "")
            + (f"  [{row['rows']:,} rows; {metrics}]" if row["rows"] is not None else "")
        )
    if all(row["move"] == "note" for row in rows):
        print_line("no model yet: `bootstrap` decides by policy alone; `weir models train` trains one")
    return 0


def run_show(given: argparse.Namespace) -> int:
    """The manifest, as it was signed."""
    manifest = json.loads(_release(given)["manifest"])
    if given.json:
        print_json(manifest)
        return 0
    for name, value in manifest.items():
        if name not in _HIDDEN:
            print_line(f"{name:26} {value if isinstance(value, str | int) else json.dumps(value)}")
    return 0


def run_lineage(given: argparse.Namespace) -> int:
    """From the signed manifest: nothing here can have been written later."""
    manifest = json.loads(_release(given)["manifest"])
    parameters = manifest["parameters"]
    lineage = {
        "model_version": manifest["model_version"],
        "snapshot": str(given.data_dir / "training" / manifest["model_version"] / SNAPSHOT),
        **{name: parameters.get(name) for name in _FROM_PARAMETERS},
        **{name: manifest[name] for name in _FROM_MANIFEST},
    }
    if given.json:
        print_json(lineage)
        return 0
    for name, value in lineage.items():
        shown = shown_time(value) if name == "label_cut_off_ms" else value
        print_line(f"{name:18} {shown}")
    return 0


def run_status(given: argparse.Namespace) -> int:
    """The registry as everybody folds it, and the controller's last words."""
    registry, last = Registry(), ""
    for _, release in journal(endpoints_of(given).kafka, MODELS):
        registry.apply(release)  # type: ignore[arg-type]
        last = f"{release['move']} {release['model_version']}: {release['why']}"
    canary = registry.canary
    status = {
        "champion": registry.champion,
        "before": registry.promoted[:-1],
        "beside": registry.beside,
        "canary": {"model_version": canary.model_version, "percent": canary.percent} if canary else None,
        "last": last,
    }
    if given.json:
        print_json(status)
        return 0
    for name, value in status.items():
        print_line(f"{name:9} {', '.join(value) if isinstance(value, list) else value or '-'}")
    return 0


def release_named(version: str, releases: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The latest release of that version which carries a model. Raises Fatal when none does."""
    carrying = [release for release in releases if release["model"]]
    found = [release for release in carrying if release["model_version"] == version]
    if not found:
        known = ", ".join(dict.fromkeys(release["model_version"] for release in carrying)) or "none"
        raise Fatal(f"model {version}: never released here; known are {known}")
    return found[-1]


def _release(given: argparse.Namespace) -> dict[str, Any]:
    return release_named(given.version, [release for _, release in journal(endpoints_of(given).kafka, MODELS)])

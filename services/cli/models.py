"""``weir models``: which models were released and why; train one; check one."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

from services.cli.reading import journal
from services.cli.shared import Commands, add_json, add_mesh, endpoints_of, print_json, print_line, shown_time
from services.mesh.bundle import Bundle, verify
from services.mesh.errors import Fatal
from services.mesh.feature_set import pinned_feature_set
from services.mesh.settings import parse_duration_ms
from services.mesh.signing import load_public_key
from services.mesh.topics import MODELS
from services.scoring.probation import load_on_probation

_HIDDEN = frozenset({"golden"})  # base64 rows: for machines


def add(commands: Commands) -> None:
    """``weir models``."""
    parser = commands.add_parser(
        "models", help="list, show, train, verify", epilog="example: weir models train --label-delay 7d"
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="every move, oldest first", epilog="example: weir models list --json")
    listing.set_defaults(run=run_list)
    show = actions.add_parser("show", help="one model's manifest", epilog="example: weir models show 20180601-1a2b3c4d")
    show.set_defaults(run=run_show)
    check = actions.add_parser(
        "verify",
        help="signature, hashes, features, and its answers in a process of its own",
        epilog="example: weir models verify 20180601-1a2b3c4d",
    )
    check.set_defaults(run=run_verify)
    train = actions.add_parser(
        "train",
        help="train on the matured labels of the running mesh and release it",
        description="Runs `python -m services.retraining` beside the mesh; its exit status is this command's.",
        epilog="example: weir models train --label-delay 7d --why 'new terminals'",
    )
    train.add_argument("--label-delay", default="7d", help="event time until a label counts as known (default: 7d)")
    train.add_argument("--why", metavar="TEXT", help="the reason, kept in the journal")
    train.add_argument("--challenge", action="store_true", help="release it to run beside, not to serve")
    train.set_defaults(run=run_train)
    for action in (show, check):
        action.add_argument("version", metavar="VERSION")
    for action in (listing, show, check, train):
        add_mesh(action)
    for action in (listing, show, check):
        add_json(action)


def run_list(given: argparse.Namespace) -> int:
    """The journal of models.v1."""
    rows = []
    for record, release in journal(endpoints_of(given).kafka, MODELS):
        manifest = json.loads(release["manifest"]) if release["manifest"] else {}
        rows.append(
            {
                "model_version": release["model_version"],
                "move": release["move"],
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
            f"{row['model_version']:20} {row['move']:9} event time {shown_time(row['event_time_ms'])}  {row['why']}"
            + (f"  [{row['rows']:,} rows; {metrics}]" if row["rows"] is not None else "")
        )
    if not rows:
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


def run_verify(given: argparse.Namespace) -> int:
    """The same door that scoring has: signature, manifest, hashes, features, then probation."""
    key = given.data_dir / "keys" / "signing.pem.pub"
    release, features = _release(given), pinned_feature_set()
    bundle = Bundle(
        manifest=release["manifest"].encode(),
        signature=release["signature"],
        model=release["model"],
        fallback=release["fallback_model"],
    )
    manifest = verify(bundle, [load_public_key(key)], features.content_hash, features.names)
    load_on_probation(bundle, manifest)
    if given.json:
        print_json(
            {"model_version": manifest.model_version, "verified": True, "golden_rows": len(manifest.golden.scores)}
        )
    else:
        print_line(
            f"{manifest.model_version}: signed by {key}, unaltered, for feature set {manifest.feature_set}; it answers "
            f"its {len(manifest.golden.scores)} golden rows as it did for its trainer"
        )
    return 0


def run_train(given: argparse.Namespace) -> int:
    """Train in a process of its own."""
    parse_duration_ms(given.label_delay, "--label-delay")
    kafka = endpoints_of(given).kafka
    signing_key = given.data_dir / "keys" / "signing.pem"
    if not signing_key.exists():
        raise Fatal(f"{signing_key}: no signing key; `weir up` makes one on its first start with --data-dir")
    argv = [sys.executable, "-m", "services.retraining", "--kafka", kafka, "--signing-key", str(signing_key)]
    argv += ["--label-delay", given.label_delay]
    argv += ["--why", given.why] if given.why else []
    argv += ["--challenge"] if given.challenge else []
    return subprocess.run(argv, check=False).returncode


def _release(given: argparse.Namespace) -> dict[str, Any]:
    """The latest release of that version which carries a model."""
    releases = [release for _, release in journal(endpoints_of(given).kafka, MODELS)]
    found = [release for release in releases if release["model_version"] == given.version and release["model"]]
    if not found:
        known = ", ".join(dict.fromkeys(release["model_version"] for release in releases)) or "none"
        raise Fatal(f"model {given.version}: never released here; known are {known}")
    return found[-1]

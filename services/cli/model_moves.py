"""``weir models promote|challenge|canary|rollback|retire|verify|train``: a person moves models, by the same rules.

Every move says who and why, names the champion that it was decided under (compare-and-set), and is read back: it was
void when somebody else was faster, and then this command fails. A version that is to serve is verified first, through
the same door that scoring has, and brings its bundle along.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from services.cli.acting import user_name
from services.cli.audit_trail import audit
from services.cli.models import release_named
from services.cli.shared import add_json, add_mesh, endpoints_of, print_json, print_line
from services.mesh.adapters.kafka_append import append
from services.mesh.adapters.log_reader import journal
from services.mesh.bundle import verify
from services.mesh.bundle_parts import Bundle
from services.mesh.codec import Codec
from services.mesh.errors import Fatal
from services.mesh.feature_set import pinned_feature_set
from services.mesh.manifest import Manifest
from services.mesh.model_registry import BOOTSTRAP, Registry, bundle_of, release_of
from services.mesh.records import ModelMove, ModelRelease
from services.mesh.settings import parse_duration_ms
from services.mesh.signing import load_public_key
from services.mesh.topics import MODELS
from services.retraining.handover import LINEAGE, RELEASE
from services.scoring.probation import load_on_probation


def fill_move(parser: argparse.ArgumentParser) -> None:
    """``weir models promote`` and the like; the parser's default says which."""
    move: ModelMove = parser.get_default("move")
    parser.epilog = f"example: weir models {move} 20180601-1a2b3c4d --why 'asked for by risk'"
    parser.add_argument("version", metavar="VERSION")
    parser.add_argument("--why", required=True, metavar="TEXT", help="the reason, kept in the journal")
    parser.add_argument("--expects", metavar="V", help="champion that must serve (default: the one that does now)")
    if move == "canary":
        parser.add_argument("--percent", type=int, default=10, help="share of customers (default: 10)")
    parser.set_defaults(run=run_move)
    add_mesh(parser)
    add_json(parser)


def fill_verify(parser: argparse.ArgumentParser) -> None:
    """``weir models verify``."""
    parser.epilog = "example: weir models verify 20180601-1a2b3c4d"
    parser.add_argument("version", metavar="VERSION")
    parser.set_defaults(run=run_verify)
    add_mesh(parser)
    add_json(parser)


def fill_train(parser: argparse.ArgumentParser) -> None:
    """``weir models train``."""
    parser.description = (
        "Runs one training beside the mesh. The first model serves at once; a later one is a challenger "
        "and promoted by the controller once it has shown to be better, unless --promote says otherwise."
    )
    parser.epilog = "example: weir models train --label-delay 7d --why 'new terminals'"
    parser.add_argument("--label-delay", default="7d", help="age at which events are judged by (default: 7d)")
    parser.add_argument("--why", default="asked for", metavar="TEXT", help="the reason, kept in the journal")
    parser.add_argument("--promote", action="store_true", help="let it serve at once")
    parser.set_defaults(run=run_train)
    add_mesh(parser)


def run_move(given: argparse.Namespace) -> int:
    """Verify what is to run, append, and see whether it held."""
    kafka = endpoints_of(given).kafka
    releases = [release for _, release in journal(kafka, MODELS)]
    registry = folded(releases)
    bundle = None
    if given.move != "retire":
        bundle = bundle_named(given.version, releases)
        verified(bundle, given.data_dir)
    elif given.version not in registry.bundles:
        raise Fatal(f"model {given.version}: not known to the registry; `weir models list` shows every move")
    release = release_of(
        given.version,
        given.move,
        why=given.why,
        actor=user_name("models"),
        event_time_ms=max((r["event_time_ms"] for r in releases), default=0),
        bundle=bundle,
        expects=given.expects or registry.champion,
        canary_percent=getattr(given, "percent", 0),
    )
    champion = released(kafka, release)
    if given.json:
        print_json({"model_version": given.version, "move": given.move, "champion": champion})
    else:
        print_line(f"{given.move} {given.version}: done; {champion} serves")
    return 0


def run_verify(given: argparse.Namespace) -> int:
    """The same door that scoring has: signature, manifest, hashes, features, then probation."""
    key = given.data_dir / "keys" / "signing.pem.pub"
    releases = [release for _, release in journal(endpoints_of(given).kafka, MODELS)]
    manifest = verified(bundle_named(given.version, releases), given.data_dir)
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
    """One training in a process of its own, then its release."""
    parse_duration_ms(given.label_delay, "--label-delay")
    kafka = endpoints_of(given).kafka
    signing_key = given.data_dir / "keys" / "signing.pem"
    if not signing_key.exists():
        raise Fatal(f"{signing_key}: no signing key; `weir up` makes one on its first start with --data-dir")
    argv = [sys.executable, "-m", "services.retraining.trainer", "--kafka", kafka, "--signing-key", str(signing_key)]
    argv += ["--directory", str(given.data_dir / "training"), "--label-delay", given.label_delay, "--why", given.why]
    ended = subprocess.run(argv, check=False, stdout=subprocess.PIPE)
    answer = json.loads(ended.stdout.splitlines()[-1]) if ended.stdout.strip() else {}
    if "folder" not in answer:
        raise Fatal(str(answer.get("refused", f"the trainer ended with status {ended.returncode}; see above")))
    folder = Path(answer["folder"])
    release: ModelRelease = Codec(MODELS.schemas[0]).decode((folder / RELEASE).read_bytes())  # type: ignore[assignment]
    registry = folded([earlier for _, earlier in journal(kafka, MODELS)])
    serves = given.promote or registry.champion == BOOTSTRAP
    release |= {
        "move": "promote" if serves else "challenge",
        "actor": user_name("models"),
        "expects": registry.champion,
        "evidence": (folder / LINEAGE).read_text(),
    }
    champion = released(kafka, release)
    print_line(f"trained {release['model_version']}: {'serves' if serves else f'runs beside {champion}'}; {folder}")
    return 0


def released(kafka: str, release: ModelRelease) -> str:
    """Append ``release`` and read it back; the champion after it. Raises Fatal when it was void."""
    value = Codec(MODELS.schemas[0]).encode(release)
    _, offset = append(kafka, MODELS, release["model_version"], value)
    registry = Registry()
    for record, found in journal(kafka, MODELS):
        why_void = registry.apply(found)  # type: ignore[arg-type]
        if record.offset == offset and why_void:
            raise Fatal(
                f"{release['move']} of {release['model_version']} is void: {why_void}; look again and repeat it"
            )
        if record.offset == offset:
            subject, detail = f"model:{release['model_version']}", {"champion": registry.champion}
            audit(kafka, f"model.{release['move']}", subject, actor=release["actor"], why=release["why"], detail=detail)
            return registry.champion
    raise Fatal(f"{MODELS.name}@{offset}: appended and not found again; is somebody deleting records?")


def folded(releases: list[dict[str, Any]]) -> Registry:
    """The registry after ``releases``."""
    registry = Registry()
    for release in releases:
        registry.apply(release)  # type: ignore[arg-type]
    return registry


def bundle_named(version: str, releases: list[dict[str, Any]]) -> Bundle:
    """The bundle that was last released as ``version``. Raises Fatal when none was."""
    found = bundle_of(release_named(version, releases))  # type: ignore[arg-type]
    assert found is not None, "a release that carries a model carries a bundle"
    return found


def verified(bundle: Bundle, data_dir: Path) -> Manifest:
    """What scoring would ask before it serves: signature, hashes, features, answers. Raises BundleRefused."""
    features = pinned_feature_set()
    key = load_public_key(data_dir / "keys" / "signing.pem.pub")
    manifest = verify(bundle, [key], features.content_hash, features.names)
    load_on_probation(bundle, manifest)
    return manifest

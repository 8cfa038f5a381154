"""Train one model from the log, in a process of its own: ``python -m services.retraining --help``.

Exit status: 0 trained and released; 75 (EX_TEMPFAIL) not enough matured labels yet; 1 any other error.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from services.mesh.adapters.kafka_append import append
from services.mesh.codec import Codec
from services.mesh.errors import WeirError
from services.mesh.feature_set import pinned_feature_set
from services.mesh.manifest import parse
from services.mesh.settings import parse_duration_ms
from services.mesh.signing import load_signing_key
from services.mesh.topics import MODELS
from services.retraining.build import Identity, build
from services.retraining.dataset import Horizon, TrainingRefused
from services.retraining.log_reading import Outcomes, Vectors, followers, recorded_of
from services.retraining.train import Settings

DAY_MS = 86_400_000
EXIT_TOO_EARLY = 75
_LOOK_EVERY_S = 2.0


class Trainer:
    """Follows vectors and outcomes, and trains when there is enough."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._given = given
        self._label_delay_ms = parse_duration_ms(given.label_delay, "--label-delay")
        self._validation_ms = parse_duration_ms(given.validation, "--validation")
        self._key = load_signing_key(given.signing_key)
        self._features = pinned_feature_set()
        self._vector_log, self._outcome_log = followers(given.kafka)
        self._vectors, self._outcomes = Vectors(), Outcomes()
        self._feature_codec = Codec("features.v1.avsc")
        self._outcome_codec = Codec("payments/outcome_raw.v1.avsc")

    def run(self) -> int:
        """Train once; with ``--wait`` as soon as labels have matured."""
        tried_ms = 0
        while True:
            self._read_outcomes()
            newest_ms = max(self._outcomes.observed_ms, default=0)
            if newest_ms >= tried_ms + DAY_MS and (not self._given.wait or self._is_worth_trying(newest_ms)):
                tried_ms = newest_ms
                try:
                    self._train(newest_ms)
                    return 0
                except TrainingRefused as refused:
                    logging.info("not yet, at %s: %s", _shown(newest_ms), refused)
            if not self._given.wait:
                logging.error("nothing to train on: %d outcomes read", len(self._outcomes.fraud))
                return EXIT_TOO_EARLY
            time.sleep(_LOOK_EVERY_S)

    def _read_outcomes(self) -> None:
        for value in self._outcome_log.to_end():
            self._outcomes.take(value, self._outcome_codec)

    def _is_worth_trying(self, newest_ms: int) -> bool:
        """Vectors are read only when outcomes alone could fill a train and a validation part."""
        oldest_ms = min(self._outcomes.observed_ms)
        return newest_ms - oldest_ms >= self._validation_ms + self._label_delay_ms

    def _train(self, cut_off_ms: int) -> None:
        for value in self._vector_log.to_end():
            self._vectors.take(value, self._feature_codec, self._features.content_hash)
        recorded = recorded_of(self._vectors, self._outcomes, len(self._features.names))
        horizon = Horizon(label_delay_ms=self._label_delay_ms, validation_ms=self._validation_ms, genuine_after_ms=None)
        identity = Identity(
            model_version=self._version(cut_off_ms),
            feature_set=self._features.content_hash,
            feature_names=self._features.names,
            fallback_feature_names=tuple(self._features.names[i] for i in self._features.event_only),
            code_version=version("weir"),
        )
        started_s = time.monotonic()
        bundle = build(recorded, identity, cut_off_ms, horizon, Settings(), self._key)
        manifest = parse(bundle.manifest)
        why = self._given.why or f"trained on {manifest.rows:,} matured events, {manifest.frauds:,} of them fraud"
        release = {
            "model_version": identity.model_version,
            "move": "challenge" if self._given.challenge else "promote",
            "why": why,
            "event_time_ms": cut_off_ms,
            "manifest": bundle.manifest.decode(),
            "signature": bundle.signature,
            "model": bundle.model,
            "fallback_model": bundle.fallback,
            "actor": "retraining",
            "expects": None,
            "canary_percent": 0,
            "evidence": "{}",
        }
        append(self._given.kafka, MODELS, identity.model_version, Codec("model_release.v1.avsc").encode(release))
        logging.info(
            "released %s (%s) after %.1f s; validation %s",
            identity.model_version,
            why,
            time.monotonic() - started_s,
            {name: round(value, 4) for name, value in manifest.metrics.items()},
        )

    def _version(self, cut_off_ms: int) -> str:
        """Date of the cut-off, and digits that differ whenever the data or the features do."""
        content = f"{self._features.content_hash}:{cut_off_ms}:{len(self._vectors.rows)}:{len(self._outcomes.fraud)}"
        return f"{datetime.fromtimestamp(cut_off_ms / 1000, UTC):%Y%m%d}-{sha256(content.encode()).hexdigest()[:8]}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, train, say why not."""
    given = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    signal.signal(signal.SIGTERM, _end)
    try:
        return Trainer(given).run()
    except WeirError as error:
        logging.error("fatal: %s", error)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m services.retraining",
        description="Train a model on the labels matured so far, sign it, release it on models.v1.",
        epilog="example: python -m services.retraining --kafka localhost:9092 --signing-key data/keys/signing.pem",
    )
    parser.add_argument("--kafka", required=True, metavar="HOST:PORT", help="bootstrap server")
    parser.add_argument("--signing-key", required=True, type=Path, metavar="PEM", help="Ed25519 private key, mode 0600")
    parser.add_argument("--label-delay", default="7d", help="age at which a payment's label is known (default: 7d)")
    parser.add_argument("--validation", default="7d", help="length of the validation part (default: 7d)")
    parser.add_argument("--wait", action="store_true", help="wait until enough labels have matured")
    parser.add_argument(
        "--challenge", action="store_true", help="run beside the model in force instead of replacing it"
    )
    parser.add_argument("--why", default="", help="reason kept in the journal")
    return parser


def _shown(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M}"


def _end(signum: int, frame: Any) -> None:
    """Training writes nothing until it is done, so it can end anywhere."""
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())

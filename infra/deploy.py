"""The one-shot job of docker-compose.yml: topics, schemas, a first policy, and a key that signs models.

Running it again changes nothing; what exists otherwise than declared ends it with one line and status 78.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from services.mesh.errors import WeirError
from services.mesh.settings import Environment
from services.mesh.signing import generate_signing_key
from services.mesh.topics import DATA_PARTITIONS_DEFAULT
from services.platform.deploy import deploy


def main() -> int:
    """Return the exit status."""
    environment = Environment(os.environ)
    kafka = environment.text("WEIR_KAFKA", None)
    registry = environment.text("WEIR_SCHEMA_REGISTRY", None)
    partitions = environment.integer("WEIR_PARTITIONS", DATA_PARTITIONS_DEFAULT, 1, 200)
    key = Path(environment.text("WEIR_SIGNING_KEY", None))
    try:
        environment.check()
        deploy(kafka, registry, partitions)
        if not key.exists():
            generate_signing_key(key)
    except WeirError as error:
        sys.stderr.write(f"deploy: {error}\n")
        return 78
    sys.stdout.write(f"deployed to {kafka}: {partitions} partitions a data topic\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

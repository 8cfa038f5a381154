"""What the trainer leaves for who asked it to train: a folder named like the model, and an exit status."""

from __future__ import annotations

EXIT_REFUSED = 75  # EX_TEMPFAIL: nothing can be learned from what there is
SNAPSHOT = "snapshot.parquet"
LINEAGE = "lineage.json"  # what made the model, and what was measured on it
RELEASE = "release.avro"  # the record for models.v1, with the signed bundle

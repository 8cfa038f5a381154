"""Where the parts of a running mesh answer: ``DATA/endpoints.json``, read by every command and by people's tools."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from services.mesh.errors import Fatal
from services.platform.files import write_atomically

FILE_NAME = "endpoints.json"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Addresses as their clients take them; None = this part does not run."""

    kafka: str  # host:port, the bootstrap server
    redis: str  # redis:// URL
    schema_registry: str  # URL of the Confluent-compatible API
    gateway: str | None = None  # URL
    console: str | None = None  # URL
    ready: bool = False  # every process is healthy

    def write(self, data_dir: Path) -> None:
        """Write ``endpoints.json`` into ``data_dir`` in one step."""
        write_atomically(data_dir / FILE_NAME, json.dumps(dataclasses.asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, data_dir: Path) -> Endpoints:
        """Read ``endpoints.json`` of a running mesh.

        Raises:
            Fatal: no mesh runs on ``data_dir``, or the file is not what a mesh writes.
        """
        path = data_dir / FILE_NAME
        try:
            return cls(**json.loads(path.read_text()))
        except FileNotFoundError:
            raise Fatal(
                f"no mesh runs on {data_dir} (no {FILE_NAME}): start one with `make run` or `weir up`"
            ) from None
        except (ValueError, TypeError) as error:
            raise Fatal(f"{path} is corrupt ({error}): restart the mesh, which writes it anew") from None


def remove(data_dir: Path) -> None:
    """Say that no mesh runs on ``data_dir`` any more."""
    (data_dir / FILE_NAME).unlink(missing_ok=True)

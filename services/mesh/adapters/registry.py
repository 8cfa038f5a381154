"""The schema registry, over its Confluent API: register (deploy step), look up (services), never both."""

from __future__ import annotations

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from services.mesh.errors import Fatal, Transient

COMPATIBILITY = "FULL_TRANSITIVE"
_NOT_FOUND_CODES = frozenset({40401, 40402, 40403})
_INCOMPATIBLE_STATUS = 409


class Registry:
    """One registry at ``url``."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = SchemaRegistryClient({"url": url, "timeout": 10})

    def register(self, subject: str, text: str, place: str) -> int:
        """Register ``text`` under ``subject`` and return its id; Fatal with the reason when it is incompatible."""
        try:
            self._require_compatibility(subject)
            return int(self._client.register_schema(subject, Schema(text, "AVRO")))
        except SchemaRegistryError as error:
            if error.http_status_code == _INCOMPATIBLE_STATUS:
                raise Fatal(
                    f"{place} as {subject}: {COMPATIBILITY} refuses it: {error.error_message}; "
                    "only add fields with defaults, anything else is a new vN"
                ) from error
            raise Fatal(f"{place} as {subject}: {error}") from error
        except OSError as error:
            raise Transient(f"schema registry {self._url}: {error}") from error

    def versions(self, subject: str) -> dict[int, str]:
        """Every registered version of ``subject``: id -> schema text. Empty when there is no such subject."""
        try:
            found = [self._client.get_version(subject, v) for v in self._client.get_versions(subject)]
        except SchemaRegistryError as error:
            if error.error_code in _NOT_FOUND_CODES:
                return {}
            raise Transient(f"schema registry {self._url}, subject {subject}: {error}") from error
        except OSError as error:
            raise Transient(f"schema registry {self._url}: {error}") from error
        return {int(version.schema_id): str(version.schema.schema_str) for version in found}

    def close(self) -> None:
        """Drop the connection."""
        self._client.close()

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *about: object) -> None:
        self.close()

    def _require_compatibility(self, subject: str) -> None:
        self._client.set_compatibility(subject, COMPATIBILITY)

"""The parts of a model bundle: who only passes one on needs nothing that checks it (``bundle``)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """One model as it travels; nothing in it is trusted before `bundle.verify`."""

    manifest: bytes  # canonical JSON
    signature: bytes
    model: bytes
    fallback: bytes

"""The journal of policies as every command sees it: folded by the same function as decisions folds it, and appended to.

A move names the version that it found in force. Whoever was faster makes it void, and the command says so: it reads
the journal once more, up to its own record.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field

from services.cli.acting import user_name
from services.cli.audit_trail import audit
from services.decisions.library import Library
from services.mesh.adapters.kafka_append import append
from services.mesh.adapters.log_reader import journal
from services.mesh.codec import Codec
from services.mesh.errors import Fatal
from services.mesh.feature_set import pinned_feature_set
from services.mesh.policy_registry import PolicyRegistry
from services.mesh.ports import InRecord
from services.mesh.records import PolicyMove, PolicyRelease
from services.mesh.topics import POLICIES

_OVERHEAD_BYTES = 1_024  # of Kafka's own around a record


@dataclass(slots=True)
class Entry:
    """One move, and why it is void; empty when it holds."""

    record: InRecord
    release: PolicyRelease
    why_void: str


@dataclass(slots=True)
class Book:
    """The journal so far."""

    library: Library
    registry: PolicyRegistry
    entries: list[Entry] = field(default_factory=list)

    def released(self, version: str) -> PolicyRelease:
        """The latest release of a version that brings its text; Fatal when there is none."""
        for entry in reversed(self.entries):
            if entry.release["policy_version"] == version and entry.release["policy"]:
                return entry.release
        known = list(dict.fromkeys(entry.release["policy_version"] for entry in self.entries))
        raise Fatal(f"policy {version}: never released here; known are {', '.join(known[-8:]) or 'none'}")

    def role(self, version: str) -> str:
        """What a version does now; empty when it does nothing."""
        registry = self.registry
        if version == registry.in_force:
            return "in force"
        if registry.rollout and version == registry.rollout.policy_version:
            return f"decides for {registry.rollout.percent}%"
        return "beside" if version in registry.beside else ""


def read_book(kafka: str) -> Book:
    """Fold the journal."""
    library = Library(pinned_feature_set().names)
    book = Book(library, PolicyRegistry(library.inspect))
    for record, decoded in journal(kafka, POLICIES):
        release: PolicyRelease = decoded  # type: ignore[assignment]
        book.entries.append(Entry(record, release, book.registry.apply(release)))
    return book


def move(
    kafka: str,
    book: Book,
    version: str,
    text: str,
    kind: PolicyMove,
    *,
    why: str,
    author: str | None,
    percent: int = 100,
    approver: str | None = None,
) -> PolicyRelease:
    """Append a move and see that it holds. Raises Fatal when it would be void, or somebody else was faster."""
    if not why.strip():
        raise Fatal("--why is empty: say why, the journal keeps it")
    in_force = book.registry.in_force
    before = book.registry.texts.get(in_force, "")
    release: PolicyRelease = {
        "policy_version": version,
        "author": author or user_name("--author"),
        "why": why,
        "policy": text,
        "move": kind,
        "percent": percent,
        "approver": approver,
        "expects": in_force or None,
        "diff": diff_of(before, text, in_force, version),
    }
    if why_void := book.registry.apply(release):
        raise Fatal(f"{kind} of {version} is refused: {why_void}{_remedy(why_void)}")
    value = Codec("policy_release.v1.avsc").encode(release)
    if len(value) > POLICIES.bytes_max - _OVERHEAD_BYTES:
        release["diff"] = ""  # the texts are there, whoever wants the difference can have it
        value = Codec("policy_release.v1.avsc").encode(release)
    if len(value) > POLICIES.bytes_max - _OVERHEAD_BYTES:
        raise Fatal(
            f"policy {version} has {len(text)} characters: a release may have {POLICIES.bytes_max} bytes; "
            "shorten its lists"
        )
    _, offset = append(kafka, POLICIES, version, value)
    for entry in read_book(kafka).entries:
        if entry.record.offset == offset and entry.why_void:
            raise Fatal(f"{kind} of {version} came too late: {entry.why_void}; see weir policy list, then repeat it")
    detail = {"percent": percent, "approver": approver, "instead_of": in_force}
    audit(kafka, f"policy.{kind}", f"policy:{version}", actor=release["author"], why=why, detail=detail)
    return release


def diff_of(before: str, after: str, from_version: str, to_version: str) -> str:
    """Unified diff of two policies; empty when they are one, or one of them is not there."""
    if not before or not after or before == after:
        return ""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), from_version, to_version, lineterm="", n=2)
    return "\n".join(lines) + "\n"


def _remedy(why_void: str) -> str:
    return "; name one with --approver" if "two people" in why_void else ""

"""Keys stay private, are never overwritten, and say clearly when they are not what they should be."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from services.mesh.errors import Fatal
from services.mesh.signing import (
    AlteredError,
    check_signature,
    generate_signing_key,
    load_public_key,
    load_signing_key,
    sign_content,
)


def test_a_generated_pair_signs_and_verifies_after_a_round_through_its_files(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "signing.pem"
    generate_signing_key(path)
    signature = sign_content(b"content", load_signing_key(path), b"domain")
    public = load_public_key(Path(f"{path}.pub"))
    check_signature(b"content", signature, [public], b"domain")
    with pytest.raises(AlteredError):
        check_signature(b"content", signature, [public], b"domain2")


def test_the_private_key_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        generate_signing_key(tmp_path / "key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["key", "key.pub"]


def test_an_existing_key_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "key"
    generate_signing_key(path)
    before = path.read_bytes(), Path(f"{path}.pub").read_bytes()
    with pytest.raises(Fatal, match="already there"):
        generate_signing_key(path)
    assert (path.read_bytes(), Path(f"{path}.pub").read_bytes()) == before


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    generate_signing_key(path)
    path.chmod(0o640)
    with pytest.raises(Fatal, match="chmod 600"):
        load_signing_key(path)


def test_what_is_no_ed25519_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    other = generate_private_key(SECP256R1())
    for content in (
        b"",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    ):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(Fatal, match=str(path)):
            load_signing_key(path)
    path.write_bytes(other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(Fatal, match="Ed25519"):
        load_public_key(path)


def test_a_missing_key_or_directory_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="cannot read the key"):
        load_signing_key(tmp_path / "none")
    with pytest.raises(Fatal, match="cannot read the key"):
        load_public_key(tmp_path / "none")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Fatal, match="cannot write the signing key"):
        generate_signing_key(tmp_path / "file" / "key")

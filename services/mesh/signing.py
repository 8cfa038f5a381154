"""Ed25519 signatures that say what they are for and whose they are.

A signature here is 72 bytes: 8 that name the key, 64 of Ed25519 over ``domain || 0 || sha256(content)``. The domain
keeps a signature made for one kind of file from being worth anything on another kind; the key's name tells "signed by
someone we do not know" apart from "altered after signing" without reading a byte of the content.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from services.mesh.errors import Fatal

KEY_NAME_BYTES = 8
SIGNATURE_BYTES = KEY_NAME_BYTES + 64


class UnknownKeyError(Exception):
    """The signature names a key that is none of ours."""


class AlteredError(Exception):
    """The key is ours; the content or the signature is not what was signed."""


def key_name(public_key: Ed25519PublicKey) -> bytes:
    """The first 8 bytes of the sha256 of the raw public key."""
    raw = public_key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return hashlib.sha256(raw).digest()[:KEY_NAME_BYTES]


def sign_content(content: bytes, key: Ed25519PrivateKey, domain: bytes) -> bytes:
    """The 72-byte signature of ``content`` in ``domain``."""
    return key_name(key.public_key()) + key.sign(_message(content, domain))


def check_signature(content: bytes, signature: bytes, public_keys: Sequence[Ed25519PublicKey], domain: bytes) -> None:
    """Return if one of ``public_keys`` signed ``content`` in ``domain``.

    Raises `UnknownKeyError` when the signature names none of them, `AlteredError` when it does not match.
    """
    if len(signature) != SIGNATURE_BYTES:
        raise AlteredError(f"signature of {len(signature)} bytes, {SIGNATURE_BYTES} expected")
    name, proof = signature[:KEY_NAME_BYTES], signature[KEY_NAME_BYTES:]
    for public_key in public_keys:
        if key_name(public_key) == name:
            try:
                public_key.verify(proof, _message(content, domain))
            except InvalidSignature:
                raise AlteredError(f"content does not match the signature of key {name.hex()}") from None
            return
    known = ", ".join(key_name(public_key).hex() for public_key in public_keys) or "none"
    raise UnknownKeyError(f"signed by key {name.hex()}; known keys: {known}")


def generate_signing_key(path: Path) -> Ed25519PrivateKey:
    """Create a key pair: the private key at ``path`` (PEM, 0600), the public one beside it at ``<path>.pub``.

    An existing file is never replaced: whatever it signed would no longer verify. Raises `Fatal`.
    """
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    # The private key first: only the process that wins that name may then write the public half.
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(path, private, 0o600, replace=False)
        _write_whole(Path(f"{path}.pub"), public, 0o644, replace=True)
    except OSError as error:
        if isinstance(error, FileExistsError) and path.exists():
            raise Fatal(f"{path}: a signing key is already there; load it, or move it away first") from None
        raise Fatal(f"{path}: cannot write the signing key: {error.strerror}; check the directory") from None
    return key


def load_signing_key(path: Path) -> Ed25519PrivateKey:
    """The private key at ``path``. Raises `Fatal` when unreadable, of another kind, or open to other users."""
    content = _read(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise Fatal(f"{path}: mode {mode:04o} lets other users read the signing key; chmod 600 {path}")
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Fatal(f"{path}: not an unencrypted PEM private key; make one with generate_signing_key") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise Fatal(f"{path}: a {type(key).__name__}, an Ed25519 private key is needed")
    return key


def load_public_key(path: Path) -> Ed25519PublicKey:
    """The public key at ``path`` (PEM). Raises `Fatal` when unreadable or of another kind."""
    try:
        key = load_pem_public_key(_read(path))
    except (ValueError, UnsupportedAlgorithm):
        raise Fatal(f"{path}: not a PEM public key; it is written beside the signing key as .pub") from None
    if not isinstance(key, Ed25519PublicKey):
        raise Fatal(f"{path}: a {type(key).__name__}, an Ed25519 public key is needed")
    return key


def _message(content: bytes, domain: bytes) -> bytes:
    return domain + b"\x00" + hashlib.sha256(content).digest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Fatal(f"{path}: cannot read the key: {error.strerror}") from None


def _write_whole(path: Path, content: bytes, mode: int, *, replace: bool) -> None:
    """Write beside, then name: a crash in between leaves no half key. mkstemp creates with 0600."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        if replace:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)

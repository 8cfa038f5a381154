"""Whom we believe to be a receiver: certificate and name are always checked; a private authority may be added."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from services.mesh.errors import Fatal

# X509_V_ERR_* of who signed: a self-signed one, alone and in a chain, an issuer that is not known, a chain without one.
_ISSUERS: Final = (18, 19, 20, 21)
_REMEDY: Final = "; if its authority is to be trusted, name it: WEIR_WEBHOOKS_CA_FILE"


def trust(ca_file: Path | None) -> ssl.SSLContext:
    """What the machine trusts (or what SSL_CERT_FILE and SSL_CERT_DIR name), and the certificates in ``ca_file``.

    Raises Fatal when that is no file of certificates.
    """
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:  # what TLS itself says of a file is one too
            said = error.strerror or str(error)
            raise Fatal(f"WEIR_WEBHOOKS_CA_FILE={ca_file}: {said}; must be a file of certificates in PEM") from None
    return context


def refusal_in(error: BaseException) -> str:
    """Why a certificate was not believed, if that is what led to ``error``; empty otherwise."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__context__  # httpcore leaves no ``__cause__``
    if cause is None:
        return ""
    why = cause.verify_message.rstrip(".")
    return f"its certificate is refused: {why}{_REMEDY if cause.verify_code in _ISSUERS else ''}"

"""TLS as a client: whom to trust (a pinned certificate, a file of authorities, or the system's), and what was wrong, in words. Opens no connection.

A pinned certificate is trusted whatever name and dates are in it: it is that very one. It must be compared before a byte of ours is sent.
"""

from __future__ import annotations

import hashlib
import os
import ssl
from functools import lru_cache
from typing import Optional, Tuple

from gpuwatch.model.errors import WireError
from gpuwatch.wire.http import UNTRUSTED, Trust

PIN_PREFIX = "sha256:"
EXPIRED, NOT_YET_VALID, WRONG_NAME = 10, 9, (62, 64)
UNKNOWN_AUTHORITY = (2, 18, 19, 20, 21)
"""X509_V_ERR_* of OpenSSL's x509_vfy.h."""


def fingerprint(der: bytes) -> str:
    """What is pinned: ``sha256:`` and 64 hex digits."""
    return PIN_PREFIX + hashlib.sha256(der).hexdigest()


def context_of(trust: Trust) -> ssl.SSLContext:
    """The context for connections that trust so; the same one as long as the file of authorities is the same. Raises WireError."""
    if trust.pin:
        return _context(Trust("pinned"), None)
    return _context(trust, _stamp(trust.ca_file or ssl.get_default_verify_paths().cafile or ""))


@lru_cache(maxsize=64)
def _context(trust: Trust, _: Optional[Tuple[str, int, int, int]]) -> ssl.SSLContext:
    if trust.pin:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # compared by ``check_pin``
    else:
        try:
            context = ssl.create_default_context(cafile=trust.ca_file or None)
        except (OSError, ValueError) as error:
            reason = "it holds no PEM certificate" if isinstance(error, (ssl.SSLError, ValueError)) else str(error.strerror)
            raise WireError(f"The file of authorities cannot be used: {reason}.", "Next: mend ca= on this line of the hosts file.") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _stamp(path: str) -> Optional[Tuple[str, int, int, int]]:
    """Other authorities, another stamp: also of a file that was read while it was being written, whose time may be the same."""
    try:
        status = os.stat(path) if path else None
    except OSError:
        return None
    return None if status is None else (path, status.st_mtime_ns, status.st_ino, status.st_size)


def check_pin(trust: Trust, der: Optional[bytes], address: str) -> None:
    """Raises WireError with both fingerprints where the certificate is not the pinned one. Call it before anything is sent."""
    if not trust.pin:
        return
    shown = fingerprint(der) if der else "none"
    if shown != trust.pin:
        raise WireError(
            f"certificate of {address} refused: it is {shown}, pinned is {trust.pin}.",
            "Next: was it renewed there (gpuwatch cert --show)? Then change pin=; else somebody stands between.",
        )


def explained(error: ssl.SSLError, address: str) -> WireError:
    """Why there is no secure connection, in words with the next step."""
    if isinstance(error, ssl.SSLCertVerificationError):
        code, said = error.verify_code, (error.verify_message or "it is not trusted").rstrip(".")
        if code in (EXPIRED, NOT_YET_VALID):
            return WireError(f"certificate of {address} refused: {said}.", "Next: renew it there (gpuwatch cert --force), or look at the clocks.")
        if code in WRONG_NAME:
            return WireError(f"certificate of {address} refused: {said}.", "Next: write a name that it holds, or pin it: pin=sha256:...")
        if code in UNKNOWN_AUTHORITY:
            return WireError(
                f"certificate of {address} refused: {said}; {UNTRUSTED}.",
                "Next: pin it (pin=sha256:... from gpuwatch cert --show there), or name its authority (ca=FILE).",
            )
        return WireError(f"certificate of {address} refused: {said}.", "Next: look at it: openssl s_client -connect " + address)
    reason = getattr(error, "reason", None) or ""
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"):
        return WireError(f"{address} does not speak TLS.", "Next: write http://, or set tls_cert there.")
    return WireError(f"{address} does not speak TLS as expected: {reason or error}.", "Next: http:// or https://?")

"""Certificates of all kinds for tests, made with the system's openssl."""

import subprocess
from pathlib import Path
from typing import NamedTuple

from gpuwatch.cli.cert import make
from gpuwatch.wire.tls import fingerprint


class Pair(NamedTuple):
    """A certificate and its key."""

    cert: Path
    key: Path

    @property
    def pin(self) -> str:
        import ssl

        return fingerprint(ssl.PEM_cert_to_DER_cert(self.cert.read_text()))


def self_signed(folder: Path, *names: str) -> Pair:
    """As ``gpuwatch cert`` makes it."""
    folder.mkdir(parents=True, exist_ok=True)
    pair = Pair(folder / "cert.pem", folder / "key.pem")
    make(*pair, names or ("127.0.0.1",), 10)
    return pair


class Authority:
    """Signs certificates; ``cert`` is what to trust."""

    def __init__(self, folder: Path) -> None:
        self._pair = self_signed(folder / "authority", "authority.test")
        self.cert = self._pair.cert
        self._folder = folder

    def issue(self, what: str, alternatives: str = "IP:127.0.0.1", days: int = 10) -> Pair:
        """For these subject alternative names; expired where ``days`` is below 0."""
        folder = self._folder / what
        folder.mkdir()
        pair, request, extensions = Pair(folder / "cert.pem", folder / "key.pem"), folder / "request", folder / "extensions"
        extensions.write_text(f"subjectAltName={alternatives}\n")
        new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={what}"]
        run("req", *new, "-keyout", pair.key, "-out", request)
        pair.key.chmod(0o600)
        signer = ["-CA", self._pair.cert, "-CAkey", self._pair.key, "-set_serial", "7"]
        run("x509", "-req", "-in", request, *signer, "-days", days, "-extfile", extensions, "-out", pair.cert)
        return pair


def run(*arguments: object) -> None:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr

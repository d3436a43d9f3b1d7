"""``gpuwatch cert``: a self-signed certificate and its key, made with the system's openssl, and the line to put into the hosts file."""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Optional, Sequence

import click

from gpuwatch.child import Child
from gpuwatch.config.load import load, state_dir
from gpuwatch.config.settings import NodeSettings
from gpuwatch.model.errors import GpuwatchError, UsageError

OPENSSL_SECONDS = 30.0
LONGEST_DAYS = 36500
_NAME = re.compile(r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")


@click.command("cert")
@click.option("--name", "names", multiple=True, metavar="NAME", help="Name or address that it is for; repeat it  [this machine's name]")
@click.option("--days", default=3650, metavar="N", help="Days until it expires  [3650]")
@click.option("--out", metavar="DIR", help="Folder for cert.pem and key.pem  [the state folder]")
@click.option("--force", is_flag=True, help="Replace those that are there.")
@click.option("--show", "shown", is_flag=False, flag_value="", default=None, metavar="[FILE]", help="Only print the fingerprint of the certificate that is there.")
@click.option("--config", metavar="PATH", help="TOML file with settings.")
def command(names: Sequence[str], days: int, out: Optional[str], force: bool, shown: Optional[str], config: Optional[str]) -> None:
    """Make a certificate for TLS: cert.pem and key.pem, signed by itself, to be pinned in the hub's hosts file.

    \b
    On a node:             gpuwatch cert
    Settings of the node:  tls_cert and tls_key, as printed
    In the hosts file:     the printed line
    """
    settings = load(NodeSettings, "node", {"config": config})
    if shown is not None:
        path = Path(shown or settings.tls_cert or _folder(out, settings) / "cert.pem")
        click.echo(_fingerprint(path))
        return
    folder = _folder(out, settings)
    chosen = [_checked(name) for name in names] or [socket.getfqdn()]
    if not 0 < days <= LONGEST_DAYS:
        raise UsageError(f"--days {days} is not from 1 to {LONGEST_DAYS}.")
    cert, key = folder / "cert.pem", folder / "key.pem"
    if not force and (cert.exists() or key.exists()):
        raise UsageError(f"There is a certificate in {folder} already. --show prints its fingerprint, --force replaces it: then change the pins of it.")
    make(cert, key, chosen, days)
    click.echo(f"Settings (at the top of the settings file, then restart):\n  tls_cert = \"{cert}\"\n  tls_key = \"{key}\"")
    click.echo(f"Line of the hub's hosts file:\n  {_line(chosen[0], settings.port, _fingerprint(cert))}")


def _folder(out: Optional[str], settings: NodeSettings) -> Path:
    if not out:
        return state_dir(settings)
    folder = Path(out).absolute()
    if not folder.is_dir():
        raise UsageError(f"{out} is not a folder. Make it, or name another with --out.")
    return folder


def _checked(name: str) -> str:
    if not _is_address(name) and not _NAME.fullmatch(name):
        raise UsageError(f"--name {name[:60]!r} is neither a host name nor an address.")
    return name


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _line(name: str, port: int, fingerprint: str) -> str:
    host = f"[{name}]" if ":" in name else name
    return f"https://{host}:{port} pin={fingerprint}"


def _fingerprint(path: Path) -> str:
    import ssl

    from gpuwatch.wire.tls import fingerprint

    try:
        text = path.read_text(encoding="ascii")
        first = text[text.index(ssl.PEM_HEADER) : text.index(ssl.PEM_FOOTER) + len(ssl.PEM_FOOTER)]
        return fingerprint(ssl.PEM_cert_to_DER_cert(first))
    except OSError as error:
        raise GpuwatchError(f"The certificate {path} cannot be read: {error.strerror}.", "Make one: gpuwatch cert") from None
    except ValueError:
        raise GpuwatchError(f"{path} holds no certificate in PEM.", "Name the file: --show FILE") from None


def make(cert: Path, key: Path, names: Sequence[str], days: int) -> None:
    """Write a self-signed pair for these names. Whole or not at all; only the owner can read the key. Raises GpuwatchError."""
    openssl = shutil.which("openssl")
    if openssl is None:
        raise GpuwatchError("There is no openssl on this machine.", "Install it (apt install openssl), or name a pair of another authority in tls_cert and tls_key.")
    folder = Path(tempfile.mkdtemp(prefix=".cert-", dir=cert.parent))
    try:
        made, made_key = folder / "cert.pem", folder / "key.pem"
        made_key.touch(mode=0o600)
        alternatives = ",".join(f"{'IP' if _is_address(name) else 'DNS'}:{name}" for name in names)
        _run(
            [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-sha256", "-days", str(days),
             "-subj", f"/CN={names[0][:64]}", "-addext", f"subjectAltName={alternatives}", "-keyout", str(made_key), "-out", str(made)]
        )  # fmt: skip
        made_key.chmod(0o600)
        os.replace(made_key, key)
        os.replace(made, cert)
    except OSError as error:
        raise GpuwatchError(f"The certificate cannot be written to {cert.parent}: {error.strerror}.", "Name another folder: --out DIR") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(argv: Sequence[str]) -> None:
    child = Child(argv)
    try:
        ended = child.wait(OPENSSL_SECONDS)
        child.exit()  # takes in the last of stderr
        if not ended or child.returncode != 0:
            raise GpuwatchError(f"openssl could not make the certificate: {child.last_words or 'it gave no answer'}.", "Is it OpenSSL 1.1.1 or newer (openssl version)?")
    finally:
        child.end(1.0)
        child.close()

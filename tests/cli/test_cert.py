"""``gpuwatch cert`` with the real openssl."""

import re
import ssl
import stat
import subprocess

from click.testing import CliRunner

from gpuwatch.cli.cert import command
from gpuwatch.config.hosts import parse_hosts
from gpuwatch.model.errors import GpuwatchError


def run(*arguments):
    return CliRunner().invoke(command, [str(one) for one in arguments])


def test_it_makes_a_pair_and_prints_the_lines_to_use(tmp_path):
    done = run("--out", tmp_path, "--name", "gpu1.lab", "--name", "192.0.2.7", "--days", 30)
    assert done.exit_code == 0, done.output
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    assert f'tls_cert = "{cert}"' in done.output
    assert f'tls_key = "{key}"' in done.output
    line = re.search(r"https://\S+ pin=\S+", done.output)[0]
    targets, bad = parse_hosts(line)
    shown = subprocess.run(
        ["openssl", "x509", "-in", cert, "-noout", "-fingerprint", "-sha256", "-ext", "subjectAltName"], capture_output=True, text=True, check=True
    ).stdout
    assert bad == ()
    assert targets[0].pin == "sha256:" + re.search(r"Fingerprint=(\S+)", shown)[1].replace(":", "").lower()
    assert "DNS:gpu1.lab, IP Address:192.0.2.7" in shown
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cert.pem", "key.pem"]
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
    assert run("--show", cert).output.strip() == targets[0].pin
    assert run("--out", tmp_path, "--show").output.strip() == targets[0].pin


def test_what_is_there_stays_without_force(tmp_path):
    run("--out", tmp_path, "--name", "a")
    before = (tmp_path / "key.pem").read_bytes()
    refused = run("--out", tmp_path, "--name", "a")
    assert "--force replaces it" in str(refused.exception)
    assert (tmp_path / "key.pem").read_bytes() == before
    assert run("--out", tmp_path, "--name", "a", "--force").exit_code == 0
    assert (tmp_path / "key.pem").read_bytes() != before


def test_what_cannot_be_is_said(tmp_path):
    for arguments, words in [
        (("--out", tmp_path / "none"), "is not a folder"),
        (("--out", tmp_path, "--name", "a,IP:1.2.3.4"), "neither a host name nor an address"),
        (("--out", tmp_path, "--name", "-subj"), "neither a host name nor an address"),
        (("--out", tmp_path, "--days", 0), "is not from 1 to"),
        (("--show", tmp_path / "none.pem"), "cannot be read: No such file"),
    ]:
        done = run(*arguments)
        assert isinstance(done.exception, GpuwatchError)
        assert words in str(done.exception)
    assert list(tmp_path.iterdir()) == []


def test_check_says_what_is_wrong_with_the_hub_s_own(tmp_path):
    from gpuwatch.cli.check import command as check

    run("--out", tmp_path, "--name", "127.0.0.1")
    (tmp_path / "hosts.txt").write_text("127.0.0.1\n")
    config = tmp_path / "gpuwatch.toml"
    config.write_text(f'tls_cert = "{tmp_path / "cert.pem"}"\ntls_key = "{tmp_path / "key.pem"}"\n[hub]\nhosts = "{tmp_path / "hosts.txt"}"\n')
    done = CliRunner().invoke(check, ["--config", str(config)])
    assert (done.exit_code, "0 problems" in done.output) == (0, True), done.output
    (tmp_path / "key.pem").chmod(0o644)
    done = CliRunner().invoke(check, ["--config", str(config)])
    assert (done.exit_code, "tls.files" in done.output, "chmod 600" in done.output) == (1, True, True), done.output

"""nginx and Caddy as a lab runs them in front of the hub: real programs with the configurations of docs/proxy.md, but for ports and certificates."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import List

PAGE = Path(__file__).resolve().parents[2] / "docs" / "proxy.md"
PLACES = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"


def block(kind: str) -> str:
    """The first code block of this kind of the page."""
    found = re.search(rf"```{kind}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found, f"{PAGE.name} has no block of {kind}"
    return found.group(1)


def program(name: str) -> str:
    found = shutil.which(name, path=PLACES)
    assert found, f"{name} is missing"
    return found


class Proxy:
    """A proxy's process; ``close`` ends it."""

    def __init__(self, argv: List[str], env: dict[str, str]) -> None:
        self._process = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(20)


def nginx(folder: Path, port: int, hub_port: int, cert: Path, key: Path) -> Proxy:
    """The page's configuration inside the smallest nginx.conf, all its files below ``folder``."""
    site = block("nginx").replace("127.0.0.1:7070", f"127.0.0.1:{hub_port}").replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
    site = site.replace("/etc/ssl/gpu.example.org.pem", str(cert)).replace("/etc/ssl/gpu.example.org.key", str(key))
    folder.mkdir()
    temporary = "".join(f"{name}_temp_path {folder / name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; user root; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;\nevents {{}}\n"
        f"http {{ access_log off; {temporary}\n{site} }}\n"
    )
    return Proxy([program("nginx"), "-p", str(folder), "-c", str(config)], {"PATH": PLACES})


def caddy(folder: Path, port: int, hub_port: int) -> Proxy:
    """The page's Caddyfile; checked by Caddy as it stands there, then run without a certificate of the internet's."""
    folder.mkdir()
    env = {"PATH": PLACES, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    config = folder / "Caddyfile"
    config.write_text(block("caddyfile"))
    checked = subprocess.run([program("caddy"), "validate", "--config", config, "--adapter", "caddyfile"], env=env, capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stderr
    site = block("caddyfile").replace("127.0.0.1:7070", f"127.0.0.1:{hub_port}").replace("gpu.example.org", f"http://127.0.0.1:{port}")
    config.write_text("{\n\tadmin off\n\tauto_https off\n}\n" + site)
    return Proxy([program("caddy"), "run", "--config", str(config), "--adapter", "caddyfile"], env)

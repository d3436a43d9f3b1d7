"""The old systems' programs, written for the tests: they decide and break as those do (by their recorded messages), over real sockets."""

from __future__ import annotations

import json
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any, Optional
from urllib.parse import quote

from tests.captures.read import Message, exchange
from tests.e2e.processes import get


def replay(url: str, message: Message, path: str = "", **headers: str) -> tuple[int, bytes, dict[str, str]]:
    """Send a recorded request as it was, to another address; ``path`` and ``headers`` (_ for -) instead of its own."""
    own = {name: value for name, value in message.headers.items() if name not in ("host", "content-length", "accept-encoding", "connection")}
    own.update({name.replace("_", "-"): value for name, value in headers.items()})
    status, text, answered = get(f"{url}{path or message.path}", own, message.method, message.body or None)
    return status, text.encode(), answered


class VestaSender:
    """Seed 004's sender, one run as cron starts it: it posts, and registers where ``status_code`` says so. Its file is ``hash_key``, ``registered_name``."""

    def __init__(self, url: str, name: str, file: Path, token: str = "0000", body: Optional[bytes] = None, source: str = "") -> None:
        self.url, self.name, self.file, self.token, self.source = url, name, file, token, source
        self.body = body or exchange("004_update").request.body
        self.sent: list[tuple[str, Any]] = []
        """What it asked, and the body it got."""

    def run(self) -> bool:
        """One run; True when its readings were taken in the end. An answer of HTTP 200 that is not JSON breaks it, as the original."""
        known = json.loads(self.file.read_text()) if self.file.exists() else None
        id = known["hash_key"] if known else self._register()
        answer = self._post(id)
        if answer is not None and answer["status_code"] == 404:
            answer = self._post(self._register())
        return answer is not None and answer["status_code"] == 200

    @property
    def registered(self) -> Any:
        """What its file holds."""
        return json.loads(self.file.read_text()) if self.file.exists() else None

    def _register(self) -> Optional[str]:
        """Its address is not quoted; what no client of HTTP can send is, here."""
        answer = self._ask(f"/register/?host_name={quote(self.name, safe=':;!*')}&token={self.token}", "GET", None)
        if answer is None or answer["status_code"] != 200:
            return None
        self.file.write_text(json.dumps({"hash_key": answer["id"], "registered_name": answer["register_name"]}))
        return str(answer["id"])

    def _post(self, id: Optional[str]) -> Any:
        return self._ask(f"/update/host/{id}?token={self.token}", "POST", self.body)

    def _ask(self, path: str, method: str, body: Optional[bytes]) -> Any:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        status, text, _ = get(self.url + path, headers, method, body, self.source)
        answer = json.loads(text) if status == 200 else None
        self.sent.append((path.partition("?")[0], answer if status == 200 else status))
        return answer


class Worker001:
    """Seed 001's worker: any answer of its metrics but 200 makes it register again. ``newest``: posts output while a command runs, and asks for stops."""

    def __init__(self, url: str, id: str, newest: bool = False, source: str = "") -> None:
        self.url, self.id, self.newest, self.source = url, id, newest, source
        self.token = ""
        self.registrations = 0
        self.statuses: list[int] = []

    def register(self) -> bool:
        """False ends a fresh worker ("Exiting.")."""
        self.registrations += 1
        status, text = self._ask("POST", "/register", {"worker_id": self.id})
        token = json.loads(text).get("token") if status == 200 else None
        self.token = token or self.token
        return bool(token)

    def beat(self, body: Optional[bytes] = None) -> Optional[tuple[int, str]]:
        """Metrics, then one look for a command; the command (id, text)."""
        name = "001head_metrics_power" if self.newest else "001_metrics"
        status, _ = self._ask("POST", "/metrics", body or exchange(name).request.body)
        self.statuses.append(status)
        if status != 200:
            self.register()
        status, text = self._ask("GET", "/commands")
        found = json.loads(text) if status == 200 else {}
        return (found["command_id"], found["command"]) if found.get("command") else None

    def execute(self, id: int, command: str) -> str:
        """Run it as the older version does, with a limit of a minute; the state it reports."""
        done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, check=False)
        output = done.stdout + (f"\nSTDERR:\n{done.stderr}" if done.stderr else "")
        return self.report(id, "completed" if done.returncode == 0 else "failed", output)

    def report(self, id: int, status: str, output: str) -> str:
        """Post output; the state."""
        code, text = self._ask("POST", "/command_output", {"command_id": id, "status": status, "output": output})
        assert (code, json.loads(text)) == (200, {"status": "success"}), text
        return status

    def must_stop(self, id: int) -> bool:
        """Its newest version's look, once a second; what it cannot read means go on."""
        code, text = self._ask("GET", f"/command_output/{id}")
        return code == 200 and json.loads(text).get("status") == "stopping"

    def _ask(self, method: str, path: str, doc: Any = None) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {self.token}"} if path != "/register" else {}
        body = doc if isinstance(doc, bytes) or doc is None else json.dumps(doc).encode()
        if body is not None:
            headers["Content-Type"] = "application/json"
        status, text, _ = get(self.url + path, headers, method, body, self.source)
        return status, text


class Hub002:
    """Seed 002's api.py about one node: takes any JSON, whatever the status, for readings; reads ``last_update`` as a naive time of its own zone."""

    def __init__(self, url: str, password: str = "8888") -> None:
        self.url, self.password = url, password
        self.data: Any = None
        self.alive = False

    def poll(self) -> None:
        """One poll. Breaks where the original's thread dies with the lock held."""
        try:
            _, text, _ = get(f"{self.url}/get-status", {"Content-Type": "application/json"}, "POST", json.dumps({"passwd": self.password}).encode())
            self.data = json.loads(text)
            self.alive = True
        except ValueError:  # not JSON: the poll failed
            if self.data is not None:
                self.alive = (datetime.now() - datetime.fromisoformat(self.data["last_update"])).total_seconds() < 60

    def entry(self) -> dict[str, Any]:
        """Its entry of ``Nodes``."""
        if self.data is None:
            return {"hostname": self.url, "status": False, "gpus": [], "version": ""}
        return {**self.data, "version": self.data["gpus"][0]["name"] if self.data["gpus"] else "", "status": self.alive}


def page003(url: str) -> list[str]:
    """The cards of seed 003's page: keys as numbers, in order; it writes four numbers of each with decimals, and one that is none ends it."""
    status, text, _ = get(f"{url}/api/gpu_status")
    assert status == 200, text
    data = json.loads(text)
    cards = []
    for number in sorted(int(key) for key in data):
        gpu = data[str(number)]
        numbers = f"{gpu['utilization']:.1f}% {gpu['memory_used']:.0f} MB / {gpu['memory_total']:.0f} MB ({gpu['memory_percent']:.1f}%)"
        cards.append(f"GPU {number} ({gpu['gpu_type'] or 'Unknown'}) {numbers}")
    return cards

"""The hub behind a real nginx with TLS at /gpuwatch/, and behind Caddy: pages in Chromium, links, files, news, curl lines, clients' addresses."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import List, NamedTuple
from urllib.parse import urljoin, urlsplit

import pytest
from playwright.sync_api import sync_playwright
from tests.certs import Pair, self_signed
from tests.e2e import proxies
from tests.e2e.processes import Lab, Running, address, eventually, free_port, get

BASE = "/gpuwatch"


class Site(NamedTuple):
    url: str
    hub: Running
    pair: Pair

    def curl(self, path: str, *more: str) -> "subprocess.CompletedProcess[str]":
        """As a person does it; the address as it is printed."""
        return subprocess.run(
            ["curl", "-sS", "--cacert", str(self.pair.cert), *more, urljoin(self.url, path)], capture_output=True, text=True, timeout=60
        )


@pytest.fixture(scope="module")
def shared_lab(pyz: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    made = Lab(pyz, tmp_path_factory.mktemp("proxy"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def site(shared_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    lab, tmp_path = shared_lab, tmp_path_factory.mktemp("nginx")
    node = lab.simulated("dgx-a")
    settings = {"base_path": BASE}
    hub = lab.hub(f"dgx-a={address(node)}\n", settings, common={"trusted_proxies": "127.0.0.1"})
    pair, port = self_signed(tmp_path / "pair", "127.0.0.1"), free_port()
    proxy = proxies.nginx(tmp_path / "nginx", port, int(address(hub).rpartition(":")[2]), *pair)
    made = Site(f"https://127.0.0.1:{port}", hub, pair)
    try:
        assert eventually(lambda: '"up"' in made.curl(f"{BASE}/api/v1/cluster").stdout), (tmp_path / "nginx" / "error.log").read_text()
        yield made
    finally:
        proxy.close()


class Addresses(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: List[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: List[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if value and (name in ("href", "src", "action") and not value.startswith(("#", "data:")))]


def test_all_links_of_the_page_lead_through_the_proxy(site: Site) -> None:
    page = site.curl(f"{BASE}/").stdout
    found = set(Addresses(page).found)
    assert len(found) > 15
    assert [one for one in found if not one.startswith(f"{BASE}/")] == []
    for one in sorted(found):
        done = site.curl(one, "-o", "/dev/null", "-w", "%{http_code}")
        assert done.stdout == "200", f"{one}: {done.stdout}"
    assert site.curl(BASE, "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}").stdout == f"308 {site.url}{BASE}/"
    assert site.curl(f"{BASE}/states", "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}").stdout == f"308 {site.url}{BASE}/states/"
    assert json.loads(site.curl(f"{BASE}/api/v1/openapi.json").stdout)["servers"] == [{"url": BASE}]


def test_a_browser_sees_the_page_live_and_what_it_prints_works(site: Site) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-dev-shm-usage"])
        page = browser.new_context(ignore_https_errors=True).new_page()
        asked: List[str] = []
        failed: List[str] = []
        page.on("request", lambda request: asked.append(urlsplit(request.url).path))
        page.on("response", lambda answer: failed.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None)
        page.on("console", lambda message: failed.append(message.text) if message.type == "error" else None)
        with page.expect_response(lambda answer: urlsplit(answer.url).path == f"{BASE}/live"):
            page.goto(f"{site.url}{BASE}/")
        line = page.locator("#curl").inner_text()
        with page.expect_response(lambda answer: urlsplit(answer.url).path == f"{BASE}/api/v1/series"):
            page.goto(f"{site.url}{BASE}/hosts/dgx-a")
        page.goto(f"{site.url}{BASE}/?view=grid")
        page.wait_for_selector("#main")
        browser.close()
    assert failed == []
    assert [path for path in asked if not path.startswith(f"{BASE}/")] == []
    command = re.fullmatch(r"curl '(\S+)'", line)
    assert command, line
    assert "dgx-a" in site.curl(command[1]).stdout


def test_clients_have_their_own_addresses_behind_it(site: Site) -> None:
    site.curl(f"{BASE}/healthz")
    assert eventually(lambda: "127.0.0.1 GET /gpuwatch/healthz 200" in site.hub.output)
    forged = ["-H", "X-Forwarded-For: 198.51.100.9, 203.0.113.7"]
    site.curl(f"{BASE}/healthz?a", *forged)  # nginx adds 127.0.0.1, which is trusted: so the next one counts
    assert eventually(lambda: "203.0.113.7 GET /gpuwatch/healthz 200" in site.hub.output)
    assert "198.51.100.9" not in site.hub.output


def test_nodes_push_through_it_beside_readers_of_pages(site: Site, shared_lab: Lab) -> None:
    """Pushes and pages share the proxy's few connections to the hub; an ended key comes back through it too."""
    lab = shared_lab
    code = lab.folder / "code"
    code.write_text(new_code(lab))
    code.chmod(0o600)
    node = lab.simulated("p1", push=f"{site.url}{BASE}/", push_pin=site.pair.pin, enroll_file=str(code), interval=0.2)
    node.wait_for("knows this node as p1")

    def taken() -> int:
        """Pushes that the hub took by way of the proxy."""
        return site.hub.output.count(f"POST {BASE}/api/v1/push 200")

    assert eventually(lambda: taken() > 5), site.hub.output
    answers, before = set(), taken()

    def beside_ten_pushes() -> bool:
        answers.add(site.curl(f"{BASE}/healthz").stdout)
        return taken() >= before + 10

    assert eventually(beside_ten_pushes)
    assert answers == {"ok\n"}
    assert lab.run("enroll", "--database", lab.database(), "revoke", "p1").returncode == 0
    code.write_text(new_code(lab, "--for", "p1"))
    node.wait_for("(?s)knows this node as p1.*knows this node as p1")
    assert "takes pushes alone" not in node.output
    assert node.stop() == 0


def new_code(lab: Lab, *options: str) -> str:
    (made,) = json.loads(lab.run("enroll", "--database", lab.database(), "create", "--json", *options).stdout)
    return str(made["code"])


def test_an_upload_comes_through(site: Site, tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("timestamp, index, name, utilization.gpu [%]\n2026/11/29 10:00:00.000, 0, NVIDIA H100, 37 %\n" + "# padding\n" * 200_000)
    done = site.curl(f"{BASE}/import", "-F", f"file=@{log}", "-o", "/dev/null", "-w", "%{http_code}")
    assert done.stdout in ("200", "400"), done.stderr  # taken in and looked at; 413 and 404 would be the proxy's or the path's


def test_caddy_takes_the_page_s_configuration(site: Site, tmp_path: Path) -> None:
    port, hub = free_port(), site.hub
    proxy = proxies.caddy(tmp_path / "caddy", port, int(address(hub).rpartition(":")[2]))
    try:
        url = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            try:
                return get(f"{url}{BASE}/healthz")[0] == 200
            except OSError:
                return False

        assert eventually(answers)
        status, page, _ = get(f"{url}{BASE}/")
        assert (status, f'href="{BASE}/hosts/dgx-a"' in page) == (200, True)
        assert get(f"{url}{BASE}")[2]["location"] == f"{BASE}/"
        get(f"{url}{BASE}/healthz", {"X-Forwarded-For": "192.0.2.99"})
        assert "192.0.2.99" not in hub.output  # Caddy takes away what it is not told to trust
    finally:
        proxy.close()

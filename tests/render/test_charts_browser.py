"""Charts in Chromium under the hub's own content policy: uPlot draws them, one line reads all strips, drag zooms, trouble is said, files come."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import pytest
from playwright.sync_api import expect, sync_playwright
from tests.e2e.processes import eventually
from tests.render import chart_samples, report_samples, samples

from gpuwatch.model.view import ViewOptions
from gpuwatch.render.as_html import gpu_page, host_page
from gpuwatch.render.chart_strips import FLEET_STRIPS, gpu_strips, host_strips
from gpuwatch.render.chart_window import RANGES, Window, latest_window, window_between
from gpuwatch.render.charts import Charts, by_metric
from gpuwatch.render.html_charts import charts_html
from gpuwatch.render.html_history import history_page
from gpuwatch.render.html_parts import gpu_url
from gpuwatch.render.html_reports import reports_page
from gpuwatch.render.reports import Rates
from gpuwatch.render.static_files import static_file
from gpuwatch.web.guard import HEADERS

expect.set_options(timeout=30_000)  # the machine may be busy
SECONDS = {name: seconds for name, _, seconds in RANGES}
LAB = samples.lab()
NODE = LAB.nodes[0]
GPU = NODE.gpus[1].reading
GPU_PAGE = gpu_url(GPU.uuid)


class Hub:
    """Serves pages with charts of samples, and counts what is asked of the API."""

    def __init__(self) -> None:
        self.broken = False
        self.hold = threading.Event()
        self.hold.set()
        self.asked: list[dict[str, str]] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_GET(self):
                status, content_type, body = hub.answer(urlsplit(self.path))
                self.send_response(status)
                for name, value in {**HEADERS, "Content-Type": content_type, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, asked) -> tuple[int, str, bytes]:
        query = dict(parse_qsl(asked.query))
        if asked.path.startswith("/static/"):
            body, content_type, _ = static_file(asked.path[8:])
            return 200, content_type, body
        if asked.path == "/api/v1/series":
            self.hold.wait(60)
            self.asked.append(query)
            if self.broken:
                return 503, "application/json", json.dumps({"error": "The database is away.", "next_step": "Next: look at its disk."}).encode()
            found = chart_samples.series(query["metric"], Window(int(query["from"]), int(query["to"]), int(query["step"])))
            return 200, "application/json", json.dumps(dataclasses.asdict(found)).encode()
        return 200, "text/html; charset=utf-8", self.page(asked.path, query).encode()

    def page(self, path: str, query: dict[str, str]) -> str:
        name = query.get("range", "24h")
        window = window_between(float(query["from"]), float(query["to"])) if "from" in query else latest_window(SECONDS[name], samples.NOW, name)
        strips, about = FLEET_STRIPS, {"subject": "All GPUs"}
        if path == "/reports":
            return reports_page(LAB, report_samples.reports(query.get("by", "user"), rates=Rates(0.3, "EUR", 400)))
        if path.startswith("/gpus/"):
            strips, about = gpu_strips(GPU), {"subject": "dgx-a GPU 1", "gpu": GPU.uuid, "host": "dgx-a"}
            about["processes"] = chart_samples.processes(GPU.uuid)
        if path.startswith("/hosts/"):
            strips, about = host_strips(NODE.snapshot.host), {"subject": "dgx-a", "host": "dgx-a"}
        found = by_metric(chart_samples.series(strip.metric, window) for strip in strips)
        charts = Charts(window, strips, found, samples.NOW, LAB.timezone, **about)
        if path.startswith("/gpus/"):
            return gpu_page(LAB, GPU.uuid, ViewOptions(), charts_html(charts, path))
        if path.startswith("/hosts/"):
            return host_page(LAB, "dgx-a", ViewOptions(), charts_html(charts, path))
        return history_page(LAB, charts, [node.name for node in LAB.nodes])


@pytest.fixture(scope="module")
def chromium():
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert path, "Chromium is not installed. Next: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture
def hub():
    served = Hub()
    yield served
    served.hold.set()
    served.server.shutdown()
    served.server.server_close()


@pytest.fixture
def visit(chromium, hub):
    """Opens a page of the hub; at the end nothing may have been said in any console."""
    contexts, said = [], []

    def open_page(path: str = GPU_PAGE, width: int = 1440, quiet: bool = True, drawn: bool = True, **more: object):
        context = chromium.new_context(viewport={"width": width, "height": 900}, **more)
        contexts.append(context)
        page = context.new_page()
        if quiet:
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(hub.url + path)
        if drawn:
            expect(page.locator(".uplot").first).to_be_visible()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


def sideways(page) -> int:
    """By how many pixels the page is wider than the window, once what follows a change of its size is done."""
    return page.evaluate(
        """() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() =>
            done(document.documentElement.scrollWidth - document.documentElement.clientWidth))))"""
    )


def reads(page) -> list[str]:
    return page.locator(".read b").all_text_contents()


@pytest.mark.parametrize("path", [GPU_PAGE, "/hosts/dgx-a", "/history", f"{GPU_PAGE}?range=30d"])
def test_charts_are_drawn_at_any_width_light_and_dark_without_a_word(visit, path):
    for scheme in ("light", "dark"):
        page = visit(path, color_scheme=scheme)
        strips = page.locator(".strip[data-src]").count()
        expect(page.locator(".uplot canvas")).to_have_count(strips)
        expect(page.locator(".chart")).to_have_count(0)
        for width in (1440, 1000, 390, 320):
            page.set_viewport_size({"width": width, "height": 800})
            assert sideways(page) == 0, (scheme, width)
            expect(page.locator(".uplot").first).to_have_js_property("clientWidth", page.locator(".stack .plot").first.evaluate("place => place.clientWidth"))


@pytest.mark.parametrize("by", ["user", "gpu"])
def test_reports_fit_any_width_light_and_dark_without_a_word(visit, by):
    for scheme in ("light", "dark"):
        page = visit(f"/reports?by={by}", color_scheme=scheme, drawn=False)
        for width in (1440, 1000, 390, 320):
            page.set_viewport_size({"width": width, "height": 800})
            assert sideways(page) == 0, (scheme, width)
    page = visit(f"/reports?by={by}", java_script_enabled=False, drawn=False)
    expect(page.locator(".heat td.none")).to_have_count(3)


INK = """canvas => { const pen = canvas.getContext('2d'), all = pen.getImageData(0, 0, canvas.width, canvas.height).data; const columns = [];
for (let x = 0; x < canvas.width; x += 1) { let solid = 0, any = 0; for (let y = 0; y < canvas.height; y += 1) { const alpha = all[4 * (y * canvas.width + x) + 3];
solid += alpha > 200; any += alpha > 0; } columns.push([solid, any]); } return columns; }"""


def test_a_gap_is_hatched_and_no_line_crosses_it(visit):
    page = visit()
    columns = page.locator(".uplot canvas").nth(2).evaluate(INK)
    window = latest_window(86400, samples.NOW)
    begin, end = (int(len(columns) * window.share(at)) for at in chart_samples.GAP)
    inside = columns[begin + 12 : end - 12]
    assert all(any_ > 0 for _, any_ in inside), "the gap is hatched"
    before = columns[begin - 60 : begin - 10]
    assert all(any_ > 3 for _, any_ in before), "a line and its band"
    assert sum(solid for solid, _ in inside) < sum(solid for solid, _ in before) * 2


def test_the_line_follows_the_colours_of_the_page(visit):
    colour = """canvas => { const pen = canvas.getContext('2d'), all = pen.getImageData(0, 0, canvas.width, canvas.height).data; let sum = 0, count = 0;
    for (let i = 0; i < all.length; i += 4) if (all[i + 3] > 250) { sum += all[i]; count += 1; } return sum / count; }"""
    page = visit(color_scheme="light", quiet=False)  # Chromium remarks on the reading back
    assert page.locator(".uplot canvas").nth(2).evaluate(colour) < 90
    page.emulate_media(color_scheme="dark")
    assert eventually(lambda: page.locator(".uplot canvas").nth(2).evaluate(colour) > 160)


def test_one_line_reads_all_strips_by_pointer_and_by_keys(visit):
    page = visit()
    usual = reads(page)
    plot = page.locator(".u-over").nth(3)
    box = plot.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 10)
    cross = page.locator(".cross")
    expect(cross).to_be_visible()
    expect(cross.locator("output")).to_contain_text("Tue 17 Nov")
    at_quarter = reads(page)
    assert at_quarter != usual
    assert len(set(at_quarter)) == len(at_quarter)
    line = cross.bounding_box()
    assert abs(line["x"] - (box["x"] + box["width"] * 0.25)) < 6
    assert line["height"] > 500
    page.mouse.move(5, 5)
    expect(cross).to_be_hidden()
    assert reads(page) == usual
    moment = page.locator("#moment")
    expect(moment).to_contain_text("all as it was Tue 17 Nov, 20:")
    assert re.search(rf"{GPU_PAGE}\?at=\d{{10}}$", moment.get_attribute("href"))
    page.locator("#stack").focus()
    page.keyboard.press("ArrowLeft")
    told = cross.locator("output").text_content()
    page.keyboard.press("PageUp")
    assert cross.locator("output").text_content() != told
    for _ in range(9):
        page.keyboard.press("PageUp")
    gap = [number for number in range(12) if "no reading" in reads(page)[0] or page.keyboard.press("ArrowLeft")]
    assert gap, "in a gap it says so"


def test_drag_zooms_and_back_returns(hub, visit):
    page = visit()
    box = page.locator(".u-over").nth(1).bounding_box()
    page.mouse.move(box["x"] + 300, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 420, box["y"] + 22, steps=5)
    page.mouse.up()
    page.wait_for_url(re.compile(r"from=\d+&to=\d+"))
    query = dict(parse_qsl(urlsplit(page.url).query))
    assert 8400 < int(query["to"]) - int(query["from"]) < 9000
    expect(page.locator(".ranges [aria-current]")).to_have_count(0)
    expect(page.locator("#charts")).to_have_attribute("data-step", "60")
    assert len([one for one in hub.asked if one["step"] == "60"]) == 6, "each strip once"
    page.go_back()
    expect(page.locator(".ranges [aria-current]")).to_have_text("24 h")
    expect(page.locator(".uplot")).to_have_count(6)


def test_another_range_is_a_link_that_needs_no_new_page(visit):
    page = visit()
    page.evaluate("window.stays = true")
    page.locator(".ranges a", has_text="7 d").click()
    page.wait_for_url("**range=7d")
    expect(page.locator("#charts")).to_have_attribute("data-step", "1800")
    expect(page.locator(".uplot")).to_have_count(6)
    assert page.evaluate("window.stays")


def test_what_takes_long_says_so_and_the_old_charts_stay(hub, visit):
    page = visit()
    hub.hold.clear()
    page.locator(".ranges a", has_text="30 d").click()
    expect(page.locator("#loading")).to_have_text("loading 30 d ...")
    expect(page.locator(".uplot")).to_have_count(6)
    expect(page.locator("#charts")).to_have_attribute("data-step", "300")
    hub.hold.set()
    expect(page.locator("#loading")).to_have_text("")
    expect(page.locator("#charts")).to_have_attribute("data-step", "7200")


def test_trouble_is_said_with_what_to_do_and_can_be_tried_again(hub, visit):
    page = visit(quiet=False)
    hub.broken = True
    page.locator(".ranges a", has_text="6 h").click()
    expect(page.locator("#loading")).to_contain_text("The database is away. Next: look at its disk.")
    expect(page.locator(".uplot")).to_have_count(6)
    hub.broken = False
    page.locator("#loading button").click()
    expect(page.locator("#loading")).to_have_text("")
    expect(page.locator(".ranges [aria-current]")).to_have_text("6 h")


def test_a_first_look_without_the_api_keeps_the_server_s_drawing(hub, visit):
    hub.broken = True
    page = visit(quiet=False, drawn=False)
    expect(page.locator("#loading")).to_contain_text("Next: look at its disk.")
    expect(page.locator(".chart")).to_have_count(6)


def test_news_of_the_page_leave_the_charts_alone(hub, visit):
    page = visit()
    page.evaluate("window.kept = document.querySelector('.uplot'); document.querySelector('#read-at').textContent = 'before'")
    expect(page.locator("#read-at")).not_to_have_text("before")
    assert page.evaluate("document.querySelector('.uplot') === window.kept")


def test_a_picture_is_saved(visit, tmp_path):
    page = visit(accept_downloads=True)
    with page.expect_download() as waiting:
        page.locator("#png").click()
    file = tmp_path / "charts.png"
    waiting.value.save_as(file)
    assert re.fullmatch(r"dgx-a-GPU-1-\d{4}-\d{2}-\d{2}\.png", waiting.value.suggested_filename)
    assert file.read_bytes().startswith(b"\x89PNG")
    assert file.stat().st_size > 20000


def test_without_script_everything_is_there(visit):
    page = visit(java_script_enabled=False, drawn=False)
    expect(page.locator(".chart")).to_have_count(6)
    expect(page.locator(".lanes rect").first).to_be_visible()
    expect(page.locator("#png")).to_be_hidden()
    page.locator(".ranges a", has_text="7 d").click()
    expect(page).to_have_url(re.compile(r"\?range=7d$"))
    page.locator('input[name="from"]').fill(str(int(samples.NOW) - 7200))
    page.locator('input[name="to"]').fill(str(int(samples.NOW)))
    page.locator(".between button").first.click()
    expect(page.locator("#charts")).to_have_attribute("data-step", "60")
    page.locator("summary", has_text="The charts as a table").click()
    expect(page.locator(".numbers table").first).to_be_visible()

"""Charts and lanes as HTML: no inline style, every name escaped, gaps hatched, a table, links that need no script."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

from tests.render import chart_samples, samples

from gpuwatch.model.series import ProcessInterval
from gpuwatch.render.chart_strips import FLEET_STRIPS, gpu_strips
from gpuwatch.render.chart_window import RANGES, latest_window, window_between
from gpuwatch.render.charts import Charts, by_metric
from gpuwatch.render.html_charts import charts_html
from gpuwatch.render.html_history import history_page
from gpuwatch.render.html_timeline import lanes_by_gpu, lanes_by_user, lanes_html, process_intervals

NOW, ZONE = samples.NOW, "Europe/Berlin"
HOSTILE = '<img src=x onerror=alert(1)>"\'&\x1b[31m\u202e'


def charts(window=None, **more):
    window = window or latest_window(86400, NOW, "24h")
    view = samples.lab().nodes[0].gpus[1]
    strips = more.pop("strips", gpu_strips(view.reading))
    series_more = more.pop("series_more", {})
    found = by_metric(chart_samples.series(strip.metric, window, **series_more) for strip in strips)
    values = {"host": "dgx-a", "gpu": view.reading.uuid, "subject": "dgx-a GPU 1", **more}
    return Charts(window, strips, found, NOW, ZONE, **values)


class Parser(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("input", "option", "meta", "link", "br", "col"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def well_formed(html):
    parsed = Parser(html)
    assert parsed.open == []
    assert not [name for name, _ in parsed.attributes if name == "style" or name.startswith("on")]
    return parsed


def test_every_strip_is_drawn_with_its_gap_and_no_line_across_it():
    html = charts_html(charts())
    well_formed(html)
    assert html.count('class="strip" data-src=') == 6
    assert html.count('fill="url(#gap)"') == 6
    drawing = html[html.index("<h2>Power") :]
    assert drawing[: drawing.index("</section>")].count('class="mean"') == 2
    assert drawing[: drawing.index("</section>")].count('class="band"') == 2


def test_the_hours_held_without_work_are_orange_and_told_to_the_script():
    html = charts_html(charts())
    assert html.count('fill="url(#held)"') == 1
    held = re.search(r'data-held="(\d+)-(\d+)"', html)
    assert int(held[2]) - int(held[1]) > 5 * 3600
    assert "url(#held)" not in charts_html(charts(idle=(100e9, 1.0, 1800.0)))


def test_ranges_are_links_and_any_other_span_is_a_form():
    html = charts_html(charts(), "/gpus/x")
    for name, label, _ in RANGES:
        assert re.search(rf'<a class="btn" href="/gpus/x\?range={name}" data-label="{label}"', html)
    assert html.count('aria-current="true"') == 1
    assert 'name="from" size="15" value="2026-11-17 14:35"' in html
    assert 'name="to" size="15" value="2026-11-18 14:32"' in html


def test_files_and_moments_have_their_addresses():
    uuid = samples.lab().nodes[0].gpus[1].reading.uuid
    html = charts_html(charts(processes=chart_samples.processes("u")))
    assert f'href="/history?host=dgx-a&amp;gpu={uuid}&amp;range=24h&amp;term=true&amp;width=120"' in html
    assert re.search(rf'href="/api/v1/processes\?host=dgx-a&amp;gpu={uuid}&amp;from=\d+&amp;to=\d+&amp;format=csv" download', html)
    assert f'data-page="/gpus/{uuid}"' in html
    assert 'data-page="/hosts/dgx-a"' in charts_html(charts(gpu=""))
    assert 'data-page="/gpus/x"' in charts_html(charts(), "/gpus/x")
    assert 'data-page="/"' in charts_html(charts(gpu="", host="", user="lisa", strips=FLEET_STRIPS))


def test_the_script_is_told_where_its_data_are():
    window = window_between(NOW - 7200, NOW - 3600)
    html = charts_html(charts(window))
    uuid = samples.lab().nodes[0].gpus[1].reading.uuid
    asked = f"/api/v1/series?metric=power_watts&amp;host=dgx-a&amp;gpu={uuid}&amp;from={window.start_at}&amp;to={window.end_at}&amp;step=60"
    assert f'data-src="{asked}"' in html
    assert "data-live" not in html
    assert "data-live" in charts_html(charts())


def test_numbers_stand_in_a_table_and_every_drawing_has_its_sentence():
    html = charts_html(charts())
    assert '<details class="numbers"><summary>The charts as a table' in html
    table = html[html.index("<table") :]
    assert table.count("<tr>") == 49
    assert "no reading" in table
    assert re.search(r'aria-label="Utilization, 24 h: mean \d+ %, lowest 0, highest 100; no readings for \d+ m"', html)


def test_nothing_kept_is_said_and_not_drawn_as_zero():
    html = charts_html(charts(series_more={"kept_since": None}))
    assert "No readings are kept yet." in html
    assert 'class="mean"' not in html
    assert html.count(">no reading</b>") == 6
    html = charts_html(charts(series_more={"kept_since": NOW - 3600}))
    assert "No readings before 13:32." in html


def test_a_metric_that_could_not_be_read_leaves_the_others():
    one = charts()
    html = charts_html(replace(one, series={name: series for name, series in one.series.items() if name != "power_watts"}))
    assert "<b>not read</b>" in html
    assert html.count('class="band"') > 2


def test_a_metric_that_is_missing_alone_was_not_reported_and_is_no_gap():
    one = charts()
    work = one.series["utilization_percent"]
    without = replace(work, mean=(None,) * len(work.mean), minimum=(None,) * len(work.mean), maximum=(None,) * len(work.mean), count=(0,) * len(work.count))
    found = replace(one, series={**one.series, "utilization_percent": without})
    html = charts_html(found)
    assert '<b class="mute">not reported</b>' in html
    assert 'aria-label="Utilization: not reported"' in html
    assert html.count('fill="url(#gap)"') == 6
    assert html.count(">not reported</td>") > 40
    assert found.gaps == one.gaps
    assert len(found.gaps) == 1


def test_trouble_stands_in_place_of_the_charts_and_the_ranges_stay():
    html = charts_html(charts(trouble="The database <cannot> be opened."))
    assert "The database &lt;cannot&gt; be opened." in html
    assert "<svg class=\"chart\"" not in html
    assert "range=30d" in html


def test_a_lone_reading_between_gaps_is_as_wide_as_its_step():
    window = window_between(NOW - 3600, NOW)
    series = chart_samples.series("power_watts", window, now=window.start_at + 60.0)
    one = charts(window)
    html = charts_html(replace(one, series={"power_watts": series}))
    assert re.search(r'class="mean" d="M0\.0 \S+ 16\.\d \S+"', html)


def test_hostile_names_stay_text():
    window = latest_window(86400, NOW, "24h")
    found = (chart_samples.past(HOSTILE, 1, ProcessInterval(HOSTILE, 1, None, HOSTILE, HOSTILE, HOSTILE, NOW - 5000, NOW)),)
    html = charts_html(charts(subject=HOSTILE, host=HOSTILE, processes=found), "/gpus/x")
    html += charts_html(charts(window, subject=HOSTILE, gpu="", host="", user=HOSTILE, processes=found))
    html += process_intervals(found, NOW, ZONE, True)
    html += history_page(samples.hostile(), charts(subject=HOSTILE, host=HOSTILE, gpu="", user=HOSTILE), [HOSTILE])
    assert "img" not in Parser(html.replace("<!doctype html>", "")).tags
    assert "\x1b" not in html
    assert "\u202e" not in html


def test_the_history_page_names_its_subject_and_its_twin():
    html = history_page(samples.lab(), charts(strips=FLEET_STRIPS, host="", gpu="", subject="All GPUs"), ["dgx-a"])
    well_formed(html.replace("<!doctype html>", ""))
    assert "<h1>All GPUs</h1>" in html
    assert "/history?range=24h&amp;term=true" in html
    assert 'href="/history?range=24h&amp;format=csv"' in html
    assert '<option value="dgx-a">' in html
    of_gpu = history_page(samples.lab(), charts(), [])
    assert 'name="gpu" value="GPU-' in of_gpu
    assert '<a href="/history?range=24h">All GPUs</a>' in of_gpu


# ---- who was on it


def test_a_lane_a_user_with_most_hours_first_and_nobody_last():
    lanes = lanes_by_user(chart_samples.processes("u"), NOW, ZONE)
    by_gpu = lanes_by_gpu(chart_samples.processes("u"), NOW, ZONE)
    assert [(lane.name, lane.href, len(lane.bars)) for lane in by_gpu] == [("dgx-a GPU 1", "/gpus/u", 6)]
    assert [lane.name for lane in lanes] == ["lisa", "chen.w", "student7", "root", "unknown user"]
    assert len(lanes[1].bars) == 2
    assert lanes[0].href == "/?user=lisa"
    assert lanes[-1].href == ""
    assert lanes[0].bars[0].title.startswith("lisa, pid 4000, Tue 12:32 to now, 1 d 02 h, up to 71.0 GB: ipykernel_launcher")


def test_bars_lie_where_the_axis_says_and_short_ones_can_be_seen():
    window = latest_window(86400, NOW, "24h")
    html = lanes_html(lanes_by_user(chart_samples.processes("u"), NOW, ZONE), window, "Processes", "who")
    well_formed(html)
    bars = re.findall(r'<rect class="span" x="([\d.]+)%" y="(\d+)" width="([\d.]+)%"', html)
    assert len(bars) == 6
    assert bars[0][0] == "0.00"
    assert float(bars[0][2]) > 99
    assert all(float(x) + float(width) <= 100.2 and float(width) >= 0.15 for x, _, width in bars)
    assert "hw2_gan.py, 30 m" in html
    assert 'class="in" x="4"' in html


def test_bars_outside_the_span_are_left_out():
    window = window_between(NOW - 3600, NOW)
    html = lanes_html(lanes_by_user(chart_samples.processes("u"), NOW, ZONE), window, "Processes", "who")
    assert html.count("<rect") == 1


def test_a_lane_whose_bars_are_too_short_for_words_names_itself_on_a_phone():
    found = [chart_samples.past("h", 0, ProcessInterval("u", 1, None, "lisa<b>", None, None, NOW - 600, NOW))]
    html = lanes_html(lanes_by_user(found, NOW, ZONE), latest_window(86400, NOW), "Processes", "who")
    well_formed(html)
    x, width, name = re.search(r'<svg x="([\d.]+)%" y="0" width="([\d.]+)%"[^>]*><text class="only-narrow" x="4" y="15">(.*?)</text>', html).groups()
    assert (x, name) == ("0.00", "lisa&lt;b&gt;")
    assert float(width) > 95


def test_no_label_lies_on_a_bar_that_ends_later():
    spans = ((1, 60000, 46000), (2, 58000, 50000))
    found = [
        chart_samples.past("h", 0, ProcessInterval("u", pid, None, "lisa", None, f"a_program_of_a_long_name_{pid}.py", NOW - begin, NOW - end))
        for pid, begin, end in spans
    ]
    html = lanes_html(lanes_by_user(found, NOW, ZONE), latest_window(86400, NOW), "Processes", "who")
    assert html.count("<rect") == 2
    assert re.findall(r'<text class="([^"]*)"', html) == ["only-narrow"]


def test_many_users_are_twelve_lanes_and_a_number():
    found = [chart_samples.past("h", 0, ProcessInterval("u", place, None, f"user{place:02}", None, None, NOW - 600 - place, NOW)) for place in range(30)]
    html = lanes_html(lanes_by_user(found, NOW, ZONE), latest_window(3600, NOW), "Processes", "who")
    assert html.count('class="row"') == 12
    assert "+18 more" in html
    assert "nobody" in lanes_html([], latest_window(3600, NOW), "Processes", "who")


def test_the_table_of_processes_tells_what_is_not_reported():
    html = process_intervals(chart_samples.processes("u"), NOW, ZONE)
    well_formed(html)
    assert html.index("unknown") < html.index("chen.w") < html.index("lisa")
    assert '<span class="mute">unknown</span>' in html
    assert html.count('class="nr"') == 3
    assert ">63.9<" in html
    many = [chart_samples.past("h", 0, ProcessInterval("u", place, None, "x", None, None, NOW - 600 - place, NOW)) for place in range(300)]
    assert process_intervals(many, NOW, ZONE).count("<tr>") == 201
    assert "300 processes, the newest 200" in process_intervals(many, NOW, ZONE)
    assert process_intervals((), NOW, ZONE) == ""

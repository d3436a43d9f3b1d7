/* Charts with uPlot in place of the drawings that the page brought: one reading line over all strips, drag to zoom, news while the span ends now.
   A strip's data come from its data-src (/api/v1/series); everything else (axis, labels, tables, lanes) is the page's own HTML, fetched again for another span. */
"use strict";
(() => {
  const $ = (selector, within = document) => within.querySelector(selector);
  const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
  const SAY_AFTER = 300, LEAST_DRAG = 8, REFRESH = 30000, PAGE_STEPS = 12;
  let section = $("#charts"), plots = [], asking = null, again = 0, pointed = null;
  if (!section || typeof uPlot === "undefined") return;

  /* ---- colours are the page's own, so that dark and light follow it */

  function palette() {
    const style = getComputedStyle(document.documentElement), color = (name) => style.getPropertyValue(name).trim();
    return { ink: color("--ink"), ink3: color("--ink-3"), band: color("--bar-2"), edge: color("--edge"), bad: color("--bad-fill"), hold: color("--hold-fill"),
      tint: color("--hold-tint"), bg: color("--bg"), line: color("--line"), hair: color("--hair"), go: color("--go-fill"), font: style.getPropertyValue("--sans") || "sans-serif" };
  }
  let colors = palette();

  function faint(color, alpha) {
    const number = parseInt(color.slice(1), 16);
    return `rgba(${number >> 16}, ${number >> 8 & 255}, ${number & 255}, ${alpha})`;
  }

  function hatch(pen, stroke, ground, width, apart) {
    const tile = document.createElement("canvas"), side = Math.round(apart * devicePixelRatio);
    tile.width = tile.height = side;
    const brush = tile.getContext("2d");
    if (ground) { brush.fillStyle = ground; brush.fillRect(0, 0, side, side); }
    brush.strokeStyle = stroke;
    brush.lineWidth = width * devicePixelRatio;
    for (const shift of [-side, 0, side]) { brush.beginPath(); brush.moveTo(shift, side); brush.lineTo(shift + side, 0); brush.stroke(); }
    return pen.createPattern(tile, "repeat");
  }

  /* ---- one strip */

  const spans = (text) => text.split(" ").filter(Boolean).map((part) => part.split("-").map(Number));

  /* Steps without a reading of anything. Where one metric is missing alone, it was not reported: that is no gap. */
  function gapsOf(answers, until) {
    const data = answers[0], step = data.step_seconds, found = [];
    const since = Math.min(...answers.map((one) => one.kept_since_at ?? Infinity));
    if (since === Infinity) return found;
    let end = Math.max(data.start_at, since), open = true;
    data.times.forEach((at, place) => {
      if (answers.every((one) => (one.mean[place] ?? null) === null)) { open = true; return; }
      if (open && at - end >= step) found.push([end, at]);
      open = false;
      end = Math.max(end, data.times[place + 1] ?? at + step);   // days have 23 or 25 hours where clocks change
    });
    const last = Math.min(data.end_at, until, data.counted_until_at ?? Infinity);
    if (last - end > step) found.push([end, last]);
    return found;
  }

  function paintUnder(plot, strip) {
    const pen = plot.ctx, { left, top, width, height } = plot.bbox;
    const x = (at) => Math.min(left + width, Math.max(left, plot.valToPos(at, "x", true)));
    pen.save();
    pen.fillStyle = hatch(pen, colors.edge, "", .6, 5);
    for (const [from, to] of strip.gaps) pen.fillRect(x(from), top, x(to) - x(from), height);
    if (strip.limit > 0 && strip.limit < strip.top) {
      const y = plot.valToPos(strip.limit, "y", true);
      pen.strokeStyle = colors.ink3;
      pen.lineWidth = devicePixelRatio;
      pen.setLineDash([2 * devicePixelRatio, 3 * devicePixelRatio]);
      pen.beginPath(); pen.moveTo(left, y); pen.lineTo(left + width, y); pen.stroke();
    }
    pen.restore();
  }

  function paintOver(plot, strip) {
    if (!strip.held.length) return;
    const pen = plot.ctx, { left, top, width, height } = plot.bbox;
    const x = (at) => Math.min(left + width, Math.max(left, plot.valToPos(at, "x", true)));
    pen.save();
    pen.fillStyle = hatch(pen, colors.hold, colors.tint, 2.2, 6);
    for (const [from, to] of strip.held) {
      const within = strip.data.mean.filter((value, place) => value !== null && strip.data.times[place] >= from && strip.data.times[place] < to);
      const y = plot.valToPos(Math.min(...within), "y", true);
      pen.fillRect(x(from), y, x(to) - x(from), top + height - y);
    }
    pen.restore();
  }

  /* A reading without neighbours is no line: it is shown as a point. */
  function alone(plot, number) {
    const values = plot.data[number];
    return values.map((value, place) => place).filter((place) => values[place] !== null && (values[place - 1] ?? null) === null && (values[place + 1] ?? null) === null);
  }

  function draw(strip) {
    const place = $(".plot", strip.element), data = strip.data, half = data.step_seconds / 2;
    const columns = strip.kind === "bars" || strip.kind === "hold", bad = strip.kind === "bad", filled = bad || columns || strip.kind === "area";
    const times = data.times.map((at, place) => at + (columns ? ((data.times[place + 1] ?? at + 2 * half) - at) / 2 : half));
    const line = columns ? "transparent" : colors.ink, fill = bad ? colors.bad : strip.kind === "hold" ? colors.hold : columns ? colors.band : faint(colors.band, .55);
    const side = { width: 0, points: { show: false }, paths: columns ? () => null : undefined };
    const plot = new uPlot({
      width: place.clientWidth, height: place.clientHeight, padding: [1, 0, 1, 0], legend: { show: false }, axes: [{ show: false }, { show: false }],
      scales: { x: { time: false, range: [strip.start, strip.end] }, y: { range: [0, strip.top] } },
      cursor: { sync: { key: "charts" }, y: false, points: { show: false }, lock: true, drag: { x: true, y: false, setScale: false, dist: LEAST_DRAG } },
      series: [{}, side, { stroke: line, width: columns ? 0 : 1.25, fill: filled ? fill : undefined, paths: columns ? uPlot.paths.bars({ size: [.88, 100] }) : undefined,
        points: columns ? { show: false } : { show: true, size: 4, width: 1, fill: line, stroke: line, filter: alone } }, side],
      bands: filled ? [] : [{ series: [3, 1], fill: faint(colors.band, .38) }],
      hooks: { drawClear: [(self) => paintUnder(self, strip)], draw: [(self) => paintOver(self, strip)], setCursor: [point], setSelect: [zoom] },
    }, [times, data.minimum, data.mean, data.maximum], place);
    const old = $(".chart", place);
    if (old) { plot.root.setAttribute("role", "img"); plot.root.setAttribute("aria-label", old.getAttribute("aria-label")); old.remove(); }
    return plot;
  }

  function stripOf(element, data, gaps) {
    const { top, scale, digits, unit, kind, limit, held } = element.dataset, frame = element.closest("#charts").dataset;
    const highest = Math.max(0, ...data.maximum.filter((value) => value !== null));
    return { element, data, kind, unit, top: Math.max(Number(top), highest), scale: Number(scale), digits: Number(digits), limit: Number(limit || 0), held: spans(held),
      start: Number(frame.start), end: Number(frame.end), gaps, usual: $(".read", element).innerHTML };
  }

  function drawAll(found) {
    for (const { plot } of plots) plot.destroy();
    plots = found.map((strip) => ({ strip, plot: draw(strip) }));
    section.dataset.own = "1";
    addOver();
    sayKeys();
  }

  /* ---- the reading line */

  function addOver() {
    const stack = $("#stack");
    if (!stack || $(".over", stack)) return;
    const over = document.createElement("div");
    over.className = "over";
    over.innerHTML = '<div class="cross" hidden><output></output></div>';
    stack.append(over);
    stack.tabIndex = 0;
    stack.setAttribute("role", "group");
  }

  function sayKeys() {
    const stack = $("#stack"), label = $(".ranges [aria-current]", section);
    if (stack) stack.setAttribute("aria-label", `Charts${label ? ` of the last ${label.textContent}` : ""}. Left and right arrow keys move the reading line.`);
  }

  const clock = (() => {
    const kept = new Map();
    return (at, step) => {
      const zone = section.dataset.zone || "UTC", key = `${zone} ${step < 86400}`;
      if (!kept.has(key)) {
        const parts = { timeZone: zone, weekday: "short", day: "numeric", month: "short", ...(step < 86400 ? { hour: "2-digit", minute: "2-digit", hourCycle: "h23" } : { year: "numeric" }) };
        try { kept.set(key, new Intl.DateTimeFormat("en-GB", parts)); } catch { kept.set(key, new Intl.DateTimeFormat("en-GB", { ...parts, timeZone: "UTC" })); }
      }
      return kept.get(key).format(1000 * at);
    };
  })();

  function number(value, strip) {
    const shown = value / strip.scale, digits = strip.digits;
    if (shown !== 0 && Math.abs(shown) < .5 * 10 ** -digits) return shown.toPrecision(2);   // it would look like nothing
    return shown.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  }

  function point(from) {
    const index = from.cursor.idx, left = from.cursor.left;
    pointed = left < 0 || index === null || index === undefined ? null : index;
    const first = plots[0];
    if (!first || from !== first.plot) return;   // the others follow the first by sync
    const cross = $(".cross", section);
    if (cross) {
      cross.hidden = pointed === null;
      const share = left / first.plot.over.clientWidth;
      cross.style.left = `${100 * share}%`;
      cross.classList.toggle("at-left", share < .06);
      cross.classList.toggle("at-right", share > .94);
      if (pointed !== null) $("output", cross).textContent = clock(first.strip.data.times[pointed], first.strip.data.step_seconds);
    }
    for (const { strip } of plots) read(strip, pointed);
    offer(first.strip.data);
  }

  /* The page as it was at the moment that was pointed at; it stays when the pointer leaves, so that it can be clicked. */
  function offer(data) {
    const link = $("#moment", section);
    if (pointed === null || !link) return;
    const at = Math.min(data.times[pointed] + data.step_seconds / 2, Date.now() / 1000);
    link.hidden = false;
    link.href = `${section.dataset.page}?at=${Math.floor(at)}`;
    link.textContent = `all as it was ${clock(at, 60)}`;
  }

  function read(strip, index) {
    const place = $(".read", strip.element);
    if (!place) return;
    if (index === null) { place.innerHTML = strip.usual; return; }
    const { mean, minimum, maximum } = strip.data, value = mean[index], big = document.createElement("b"), small = document.createElement("span");
    if (value === null || value === undefined) big.textContent = plots.some((one) => (one.strip.data.mean[index] ?? null) !== null) ? "not reported" : "no reading";
    else {
      const unit = document.createElement("small");
      unit.textContent = strip.unit;
      big.append(`${number(value, strip)} `, unit);
      small.textContent = `${number(minimum[index], strip)} to ${number(maximum[index], strip)}`;
    }
    place.replaceChildren(big, small);
  }

  function move(by) {
    const first = plots[0];
    if (!first) return;
    const times = first.plot.data[0], index = Math.max(0, Math.min(times.length - 1, (pointed === null ? times.length - 1 : pointed + by)));
    first.plot.setCursor({ left: first.plot.valToPos(times[index], "x"), top: 1 }, true, true);
  }

  document.addEventListener("keydown", (event) => {
    if (event.target.id !== "stack" || event.ctrlKey || event.metaKey || event.altKey) return;
    const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -PAGE_STEPS, PageDown: PAGE_STEPS }[event.key];
    if (by) { event.preventDefault(); move(by); }
  });

  /* ---- another span: the page's own HTML and the series, together; the old ones stay until both are there */

  function zoom(plot) {
    const { left, width } = plot.select;
    if (!(width >= LEAST_DRAG)) return;
    const from = Math.round(plot.posToVal(left, "x")), to = Math.round(plot.posToVal(left + width, "x"));
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    const url = new URL(location.href);
    url.searchParams.delete("range");
    url.searchParams.set("from", from);
    url.searchParams.set("to", to);
    if (asking === null || asking.url !== url.href) show(url.href, spoken(to - from), true);
  }

  function spoken(seconds) {
    if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
    return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
  }

  function say(text, problem = false, retry = null) {
    const place = $("#loading", section);
    place.textContent = text;
    place.classList.toggle("is-error", problem);
    if (retry) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = "Try again";
      button.addEventListener("click", retry);
      place.append(" ", button);
    }
  }

  async function get(url, signal) {
    const reply = await fetch(url, { signal, cache: "no-store" });
    if (reply.ok) return reply;
    let told = "";
    try { const words = await reply.json(); told = `${words.error || ""} ${words.next_step || ""}`.trim(); } catch { /* it was no JSON */ }
    throw Object.assign(new Error(told || `The hub answers ${reply.status}. Next: look into the hub's log.`), { hub: true });
  }

  async function seriesOf(frame, signal) {
    const strips = $$(".strip[data-src]", frame);
    const answers = await Promise.all(strips.map(async (element) => (await get(element.dataset.src, signal)).json()));
    return strips.map((element, place) => [element, answers[place]]);
  }

  /* url "" = draw what the page shows already */
  async function show(url, label, remember = false) {
    clearTimeout(again);
    if (asking) asking.stop.abort();
    const mine = asking = { url, stop: new AbortController() };
    const late = setTimeout(() => { if (url) say(`loading ${label} ...`); section.classList.toggle("is-old", url !== ""); }, SAY_AFTER);
    try {
      let frame = section;
      if (url) {
        const page = new DOMParser().parseFromString(await (await get(url, mine.stop.signal)).text(), "text/html");
        frame = $("#charts", page);
        if (!frame) throw Object.assign(new Error(`${$("main", page)?.textContent.trim().slice(0, 200) || "The page has no charts."}`), { hub: true });
      }
      const found = await seriesOf(frame, mine.stop.signal);
      if (asking !== mine) return;
      if (remember) history.pushState(null, "", url);
      if (url) { for (const { plot } of plots) plot.destroy(); plots = []; section.replaceWith(frame); section = frame; }
      const gaps = found.length ? gapsOf(found.map(([, data]) => data), Date.now() / 1000) : [];
      drawAll(found.map(([element, data]) => stripOf(element, data, gaps)));
      say("");
    } catch (problem) {
      if (problem.name === "AbortError") return;
      if (!problem.hub && !(problem instanceof TypeError) && !(problem instanceof SyntaxError)) throw problem;
      say(problem.hub ? problem.message : `No answer from the hub for ${label}. Next: look whether the hub runs; the page shows what it had.`, true, () => show(url, label, remember));
    } finally {
      clearTimeout(late);
      if (asking === mine) { asking = null; section.classList.remove("is-old"); plan(); }
    }
  }

  function plan() {
    clearTimeout(again);
    if (!section.dataset.live) return;
    again = setTimeout(() => { if (document.hidden || pointed !== null || $(":focus", section)) plan(); else show(location.href, labelNow()); }, Math.max(REFRESH, 500 * Number(section.dataset.step)));
  }

  const labelNow = () => ($(".ranges [aria-current]", section) || { textContent: "the charts" }).textContent;

  document.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
    const link = event.target.closest("#charts .ranges .seg a");
    if (link) { event.preventDefault(); show(link.href, link.dataset.label, true); }
    if (event.target.closest("#png")) savePicture();
  });

  addEventListener("popstate", () => show(location.href, "the charts"));

  /* ---- the same when the window or the colours change */

  function redraw() {
    colors = palette();
    drawAll(plots.map(({ strip }) => strip));
  }

  new ResizeObserver(() => {
    for (const { plot, strip } of plots) {
      const place = $(".plot", strip.element);
      if (place.clientWidth > 0 && (plot.width !== place.clientWidth || plot.height !== place.clientHeight)) plot.setSize({ width: place.clientWidth, height: place.clientHeight });
    }
  }).observe($("#main"));
  for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", redraw);

  /* ---- a picture of the strips as they stand */

  function savePicture() {
    const stack = $("#stack"), ratio = devicePixelRatio, box = stack.getBoundingClientRect(), edge = 16, head = 40;
    const canvas = document.createElement("canvas");
    canvas.width = (box.width + 2 * edge) * ratio;
    canvas.height = (box.height + head + 2 * edge) * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.fillStyle = colors.bg;
    pen.fillRect(0, 0, box.width + 2 * edge, box.height + head + 2 * edge);
    pen.translate(edge, edge);
    write(pen, section.dataset.name || "gpuwatch", 0, 14, `600 15px ${colors.font}`, colors.ink);
    pen.translate(0, head);
    for (const { plot } of plots) picturePlot(pen, plot, box);
    for (const text of $$("h2, .yax span, .read b, .read span, .who li, text", stack)) pictureText(pen, text, box);
    for (const bar of $$(".lanes rect.span", stack)) pictureBar(pen, bar, box);
    canvas.toBlob((blob) => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download = `${(section.dataset.name || "gpuwatch").replace(/[^\w.-]+/g, "-")}-${new Date().toISOString().slice(0, 10)}.png`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    });
  }

  function write(pen, text, x, y, font, color, align = "left") {
    pen.font = font;
    pen.fillStyle = color;
    pen.textAlign = align;
    pen.fillText(text, x, y);
  }

  function picturePlot(pen, plot, box) {
    const place = plot.root.parentElement.getBoundingClientRect(), x = place.left - box.left, y = place.top - box.top;
    pen.strokeStyle = colors.line;
    pen.lineWidth = 1;
    for (const share of [0, .5, 1]) { pen.beginPath(); pen.moveTo(x, y + share * place.height); pen.lineTo(x + place.width, y + share * place.height); pen.stroke(); }
    pen.drawImage(plot.ctx.canvas, x, y, place.width, place.height);
  }

  function pictureText(pen, element, box) {
    const place = element.getBoundingClientRect(), style = getComputedStyle(element);
    if (!place.width) return;
    write(pen, element.textContent, place.left - box.left, place.top - box.top + place.height / 2 + 4, `${style.fontWeight} ${style.fontSize} ${colors.font}`,
      element.closest("svg") ? style.fill : style.color);
  }

  function pictureBar(pen, element, box) {
    const place = element.getBoundingClientRect();
    pen.fillStyle = getComputedStyle(element).fill;
    pen.globalAlpha = .8;
    pen.fillRect(place.left - box.left, place.top - box.top, place.width, place.height);
    pen.globalAlpha = 1;
  }

  show("", labelNow());
})();

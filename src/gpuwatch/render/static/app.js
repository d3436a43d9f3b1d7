/* What a page does beyond being read: news in place, filter as one types, keys. Without this script everything still works by links and forms. */
"use strict";
(() => {
  const $ = (selector, within = document) => within.querySelector(selector);
  const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
  const body = document.body, root = body.dataset.root || "/";   // where a proxy shows the hub
  const local = !body.classList.contains("is-paged");   // the page holds every row, so that filters need no request
  const address = new URL(location.href), moment = body.dataset.at;   // the page shows that moment of the past
  const table = $("#gpus"), input = $("#q"), free = $("#free"), none = $("#none"), shown = $("#shown");
  let chosen = address.searchParams.get("free") ? "free" : address.searchParams.get("state") || "";
  let words = [];
  let grid = null;
  document.documentElement.classList.add("has-js");

  /* ---- news are put in place: nodes that stay keep focus, selection and scroll */

  function morph(from, to) {
    if (from.isEqualNode(to) || (from.dataset && from.dataset.own)) return;   // charts.js keeps its own part
    if (from.nodeType !== to.nodeType || from.nodeName !== to.nodeName || from.id !== to.id) { from.replaceWith(to); return; }
    if (from.nodeType !== Node.ELEMENT_NODE) { from.data = to.data; return; }
    for (const { name } of [...from.attributes]) if (!to.hasAttribute(name) && name !== "open") from.removeAttribute(name);
    for (const { name, value } of to.attributes) if (from.getAttribute(name) !== value) from.setAttribute(name, value);
    morphChildren(from, to);
  }

  function morphChildren(from, to) {
    const old = [...from.childNodes], wanted = [...to.childNodes];
    wanted.forEach((node, place) => old[place] ? morph(old[place], node) : from.append(node));
    old.slice(wanted.length).forEach((node) => node.remove());
  }

  function parse(html) {
    const template = document.createElement("template");
    template.innerHTML = html;
    return template.content;
  }

  function put(selector, html) {
    const place = $(selector);
    if (place && html !== undefined) morphChildren(place, parse(html));
  }

  /* ---- asking for news */

  const poll = 1000 * Number(body.dataset.poll || 5), live = body.dataset.live;
  let version = Number(body.dataset.version || 0), order = body.dataset.order, heard = Date.now(), asking = false, timer = 0;

  async function ask() {
    clearTimeout(timer);
    if (!live || document.hidden || asking) return;
    asking = true;
    try {
      if (live === "page") await askForPage();
      else {
        let news = await askSince(version);
        if (news.order_id !== order) news = await askSince(0);
        apply(news);
      }
      heard = Date.now();
    } catch (problem) {
      if (!(problem instanceof TypeError) && problem.name !== "TimeoutError" && problem.name !== "AbortError" && !problem.hub) throw problem;
    } finally {
      asking = false;
      sayAge();
      timer = setTimeout(ask, poll);
    }
  }

  async function get(url) {
    const reply = await fetch(url, { signal: AbortSignal.timeout(Math.max(10000, 2 * poll)), cache: "no-store" });
    if (!reply.ok) throw Object.assign(new Error(`the hub answers ${reply.status}`), { hub: true });
    return reply;
  }

  async function askSince(since) {
    return (await get(`${live}${live.endsWith("?") ? "" : "&"}since=${since}`)).json();
  }

  async function askForPage() {
    const page = new DOMParser().parseFromString(await (await get(location.href)).text(), "text/html");
    document.title = page.title;
    const main = $("#main", page), time = $("#read-at", page);
    if (main) morphChildren($("#main"), main);
    if (time) $("#read-at").textContent = time.textContent;
  }

  function apply(news) {
    version = news.version;
    order = news.order_id;
    if ($("#read-at")) $("#read-at").textContent = news.read_at;
    if (!news.changed) return;
    document.title = news.title;
    put("#figs", news.counts);
    put("#answers", news.answers);
    put("#notices", news.notices);
    put("#facts-line", news.footer);
    if (news.hosts && table) applyHosts(news.hosts, news.order);
    if (news.cells && grid) grid.update(news.cells);
    filter();
  }

  function applyHosts(hosts, wanted) {
    const rows = new Map($$("tbody", table).map((part) => [part.dataset.key, part]));
    for (const [key, html] of Object.entries(hosts)) {
      const fresh = parse(html).firstElementChild, old = rows.get(key);
      if (!fresh) { if (old) old.remove(); rows.delete(key); continue; }
      if (old) { gather(old); morph(old, fresh); } else { table.append(fresh); rows.set(key, fresh); }
    }
    if (!wanted) return;
    const keep = new Set(wanted);
    for (const [key, part] of rows) if (!keep.has(key)) part.remove();
    let before = $("thead", table);
    for (const key of wanted) {
      const part = rows.get(key);
      if (!part) continue;
      if (before.nextElementSibling !== part) before.after(part);
      before = part;
    }
  }

  function sayAge() {
    const seconds = Math.round((Date.now() - heard) / 1000), old = seconds * 1000 > 3 * poll, word = $("#live-word"), place = $("#notices");
    body.classList.toggle("is-live", !old);
    if (word) word.textContent = old ? `no update for ${seconds < 100 ? seconds + " s" : Math.floor(seconds / 60) + " min"}` : "Live";
    const told = $("#away");
    if (!old) { if (told) told.remove(); return; }
    if (told || !place) return;
    const line = document.createElement("p");
    const clock = new Date(heard).toTimeString().slice(0, 5), at = $("#read-at");
    line.id = "away";
    line.className = "notice";
    line.textContent = `No answer from the hub since ${clock}. The page shows ${at ? at.textContent : "what it was then"}; it tries again every ${poll / 1000} s.`;
    place.append(line);
  }

  /* ---- filter: rows that do not match are hidden, the host's cell goes to the first that does */

  function gather(part) {
    const head = $("th.host", part), rows = [...part.rows];
    if (!head || !rows.length) return;
    if (head.parentNode !== rows[0]) rows[0].prepend(head);
    head.rowSpan = rows.length;
    for (const row of rows) row.hidden = false;
  }

  function hasState(states, wanted) {
    return !wanted || states.includes(wanted) || (wanted === "down" && states.includes("lost"));
  }

  function filterPart(part) {
    const head = $("th.host", part), about = part.dataset.q;
    let found = 0, first = null, visible = 0, ok = true;
    for (const row of part.rows) {
      if (!row.classList.contains("slice")) {
        const text = `${about}\n${row.dataset.q}`;
        ok = hasState(row.dataset.state.split(" "), chosen) && words.every((word) => text.includes(word));
        if (ok && row.classList.contains("gpu")) found += 1;
      }
      row.hidden = !ok;
      if (ok) { visible += 1; first = first || row; }
    }
    part.hidden = !visible;
    if (first && head) {
      if (head.parentNode !== first) first.prepend(head);
      if (head.rowSpan !== visible) head.rowSpan = visible;
    }
    return found;
  }

  function filter() {
    for (const figure of $$(".count")) figure.setAttribute("aria-pressed", String(figure.dataset.state === chosen));
    if (free) free.setAttribute("aria-pressed", String(chosen === "free"));
    if (!local) return;
    if (input) words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    if (grid) grid.filter(words, chosen);
    if (!table) return;
    let found = 0;
    for (const part of table.tBodies) found += filterPart(part);
    const filtered = words.length > 0 || chosen !== "", empty = filtered && ![...table.tBodies].some((part) => !part.hidden);
    if (none) { none.hidden = !empty; if (empty) $("q", none).textContent = [...words, chosen].filter(Boolean).join(" "); }
    if (shown) shown.textContent = filtered ? `${found} of ${shown.dataset.total} GPUs` : "";
  }

  function readable(url) {   // times keep their colons
    url.search = url.search.replaceAll("%3A", ":");
    return url;
  }

  function remember() {
    const changes = { q: input ? input.value.trim() : "", state: chosen === "free" ? "" : chosen, free: chosen === "free" ? "true" : "" };
    const change = (url) => { for (const [name, value] of Object.entries(changes)) value ? url.searchParams.set(name, value) : url.searchParams.delete(name); return readable(url); };
    history.replaceState(null, "", change(new URL(location.href)));
    for (const link of $$(".gpus thead a, .tools .seg a, .chosen, .past a, #goto")) link.href = change(new URL(link.href));
    for (const form of $$(".past form")) for (const [name, value] of Object.entries(changes)) {
      const field = form.elements[name] || form.appendChild(Object.assign(document.createElement("input"), { type: "hidden", name }));
      field.value = value;
      field.disabled = !value;
    }
    const code = $("#curl");
    if (code) { const url = change(new URL(code.dataset.path, location.href)); code.dataset.path = url.pathname + url.search; sayCurl(); }
  }

  function sayCurl() {
    const code = $("#curl");
    if (code) code.textContent = `curl '${location.origin}${code.dataset.path}'`;
  }

  function choose(state) {
    chosen = chosen === state ? "" : state;
    filter();
    remember();
  }

  function clear() {
    if (input) input.value = "";
    chosen = "";
    if (grid) grid.clear();
    filter();
    remember();
  }

  document.addEventListener("click", (event) => {
    if (!local || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
    const figure = event.target.closest(".count"), only = event.target.closest("#free"), reset = event.target.closest("#none a");
    if (!figure && !only && !reset) return;
    event.preventDefault();
    if (reset) clear();
    else choose(figure ? figure.dataset.state : "free");
  });
  if (input && local) {
    input.addEventListener("input", () => { filter(); remember(); });
    $("#find").addEventListener("submit", (event) => { event.preventDefault(); filter(); remember(); });
  }

  addEventListener("hashchange", () => {   // a link to a row that the filter hides
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && local && (target.hidden || target.closest("tbody[hidden]"))) { clear(); target.scrollIntoView(); }
  });

  /* ---- the past: links that this script makes stay at the moment, too; the slider goes where it is let go */

  const KEY_LINKS = { ",": "#before, #goto", ".": "#after", "<": "#changed-before", ">": "#changed-after", l: "#back" };

  function atMoment(url) {
    if (moment) url.searchParams.set("at", moment);
    url.searchParams.delete("change");   // the page shows where it led
    return readable(url);
  }

  if (moment) {
    history.replaceState(null, "", atMoment(new URL(location.href)));   // -2h is another time tomorrow
    document.addEventListener("click", (event) => {
      const link = event.target.closest("a[href]");
      if (link && link.origin === location.origin && link.pathname.startsWith(root) && /^($|hosts\/|gpus\/)/.test(link.pathname.slice(root.length)) && !link.closest(".past")) link.href = atMoment(new URL(link.href));
    }, true);
    const slider = $("#slider");
    let letGo = 0;
    if (slider) {
      const clock = new Intl.DateTimeFormat("en-US", { weekday: "short", day: "numeric", month: "short", year: "numeric", hour: "2-digit",
        minute: "2-digit", second: "2-digit", hourCycle: "h23", timeZone: slider.dataset.zone });
      slider.addEventListener("input", () => {
        const part = Object.fromEntries(clock.formatToParts(1000 * slider.value).map(({ type, value }) => [type, value]));
        const told = `${part.weekday} ${part.day} ${part.month} ${part.year} ${part.hour}:${part.minute}:${part.second}`;
        $(".then b").textContent = told;
        $("#ago").textContent = "";
        slider.setAttribute("aria-valuetext", told);
      });
      slider.addEventListener("change", () => { clearTimeout(letGo); letGo = setTimeout(() => slider.form.requestSubmit(), 300); });
    }
  }

  /* ---- keys */

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const typing = event.target.closest("input, select, textarea");
    if (event.key === "Escape" && event.target === input) { if (input.value) { input.value = ""; filter(); remember(); } else input.blur(); event.preventDefault(); return; }
    if (typing || $("#keys").open) return;
    if (event.key === " " && event.target.closest("[role=button]")) { event.preventDefault(); event.target.closest("[role=button]").click(); }
    if (event.key === "/" && input) { event.preventDefault(); input.focus(); input.select(); }
    if (event.key === "f" && free) free.click();
    if (KEY_LINKS[event.key] && $(KEY_LINKS[event.key])) $(KEY_LINKS[event.key]).click();
    if (event.key === "?") $("#keys").showModal();
    if (event.key === "Escape" && local && input) clear();
  });

  /* ---- the grid of a large cluster: one canvas a group, a list of which only the rows in sight exist, one host at the right */

  const KINDS = { b: ["busy", "busy"], f: ["free", "free"], i: ["idle", "idle, held"], r: ["reserved", "reserved"], t: ["warn", "hot or throttled"],
    n: ["unknown", "not reported"], s: ["stale", "stale"], d: ["down", "down or lost"], u: ["stale", "unseen"] };
  const STATES = { free: "f", idle: "i", busy: "btn", reserved: "r", stale: "s", down: "d", lost: "d", unknown: "n" };
  const CELL = 6, PITCH = 7, COLUMN = 8, TALL = 28;
  const escaped = (text) => String(text).replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
  const shape = (name) => `<svg class="ic" aria-hidden="true"><use href="#i-${name}"/></svg>`;
  const pad = (number) => String(number).padStart(2, "0");
  const span = (minutes) => minutes < 60 ? `${minutes} m` : minutes < 1440 ? `${Math.floor(minutes / 60)} h ${pad(minutes % 60)} m`
    : `${Math.floor(minutes / 1440)} d ${pad(Math.floor(minutes / 60) % 24)} h`;
  const freeOf = (item) => item.letters.split("f").length - 1;

  function makeGrid(block) {
    const data = JSON.parse(block.textContent), place = $("#grid"), say = $("#say"), box = $("#box"), list = $("#rows"), one = $("#one");
    const least = { model: "", count: 0 };
    let hosts = data.rows.map(host), visible = hosts, groups = [], shade = "util", pointed = null, cell = 0, opened = "", wantedWords = [], wantedState = "";

    function host([name, tag, model, total, letters, util, memory, users, owners, since, note]) {
      return { name, tag, model, total, letters, util, memory, users, owners, since, note, ok: true, text: [name, tag, model, ...users].join("\n").toLowerCase() };
    }

    function matches(item) {
      if (least.count && (item.model !== least.model || freeOf(item) < least.count)) return false;
      if (wantedState && ![...item.letters].some((letter) => (STATES[wantedState] || "").includes(letter))) return false;
      return wantedWords.every((word) => item.text.includes(word));
    }

    /* the drawing */

    function group() {
      const by = $("#group").value, found = new Map();
      for (const item of hosts) {
        const key = item[by] || (by === "tag" ? "no tag" : "no GPU");
        if (!found.has(key)) found.set(key, []);
        found.get(key).push(item);
      }
      groups = [...found].map(([key, items]) => ({ key, items, canvas: document.createElement("canvas"), label: document.createElement("div") }));
      place.replaceChildren(...groups.map(({ canvas, label }) => {
        const pool = document.createElement("div");
        pool.className = "pool";
        label.className = "pool-label";
        canvas.setAttribute("aria-hidden", "true");
        pool.append(label, canvas);
        return pool;
      }));
    }

    function palette() {
      const style = getComputedStyle(document.documentElement), color = (name) => style.getPropertyValue(name).trim();
      return { busy: [1, 2, 3, 4, 5].map((step) => color(`--r${step}`)), go: color("--go-fill"), hold: color("--hold-fill"), tint: color("--hold-tint"),
        bad: color("--bad-fill"), edge: color("--edge"), line: color("--ink-2"), ink: color("--ink"), bg: color("--bg") };
    }

    function triangle(pen, x, y, side) {
      pen.beginPath(); pen.moveTo(x + side, y); pen.lineTo(x + side, y + side); pen.lineTo(x, y + side); pen.fill();
    }

    const DOTS = { n: [[0, 0], [1, 0], [4, 0], [5, 0], [2, 2], [3, 2], [2, 3], [3, 3], [0, 5], [1, 5], [4, 5], [5, 5]],
      s: [[0, 0], [2, 0], [4, 0], [0, 2], [5, 2], [0, 4], [5, 4], [1, 5], [3, 5]] };

    function drawCell(pen, colors, item, index, x, y) {
      const letter = item.letters[index], square = (color) => { pen.fillStyle = color; pen.fillRect(x, y, CELL, CELL); };
      if (letter === "b" || letter === "t") {
        const share = shade === "util" ? item.util[index] / 100 : item.memory[index] / (item.total || 1);
        square(colors.busy[letter === "t" ? 4 : Math.max(0, Math.min(4, Math.floor((share || 0) * 5)))]);
        if (letter === "t") { pen.fillStyle = colors.bg; triangle(pen, x, y, CELL); pen.fillStyle = colors.bad; triangle(pen, x + 1.4, y + 1.4, CELL - 1.4); }
      } else if (letter === "f") square(colors.go);
      else if (letter === "i") { square(colors.tint); pen.fillStyle = colors.hold; pen.fillRect(x, y, 2, CELL); pen.fillRect(x + 4, y, 2, CELL); }
      else if (letter === "r") { pen.strokeStyle = colors.line; pen.lineWidth = 1; pen.strokeRect(x + .5, y + .5, CELL - 1, CELL - 1); }
      else if (letter === "d") {
        pen.strokeStyle = colors.bad; pen.lineWidth = 1.5;
        pen.beginPath(); pen.moveTo(x + .5, y + .5); pen.lineTo(x + 5.5, y + 5.5); pen.moveTo(x + 5.5, y + .5); pen.lineTo(x + .5, y + 5.5); pen.stroke();
      } else {
        pen.fillStyle = colors.edge;
        for (const [right, down] of DOTS[letter] || DOTS.s) pen.fillRect(x + right, y + down, 1, 1);
      }
    }

    function draw() {
      const colors = palette(), ratio = devicePixelRatio || 1;
      const widths = groups.map(({ canvas, label }) => canvas.parentNode.clientWidth - (canvas.offsetTop > label.offsetTop ? 0 : label.offsetWidth));
      groups.forEach((pool, number) => drawPool(pool, Math.max(4, Math.floor(widths[number] / COLUMN)), colors, ratio));
    }

    function drawPool(pool, columns, colors, ratio) {
      const { canvas, items } = pool, deep = Math.max(1, ...items.map((item) => item.letters.length)), line = deep * PITCH + 8;
      const width = Math.min(columns, items.length) * COLUMN, height = Math.ceil(items.length / columns) * line, pen = canvas.getContext("2d");
      Object.assign(pool, { columns, line });
      canvas.width = width * ratio; canvas.height = height * ratio;
      canvas.style.width = `${width}px`; canvas.style.height = `${height}px`;
      pen.scale(ratio, ratio);
      items.forEach((item, number) => {
        const x = number % columns * COLUMN, y = Math.floor(number / columns) * line;
        pen.globalAlpha = item.ok ? 1 : .13;
        for (let index = 0; index < item.letters.length; index += 1) drawCell(pen, colors, item, index, x + 1, y + 2 + index * PITCH);
        if (!item.letters) { pen.fillStyle = colors.edge; pen.fillRect(x + 1, y + 2, CELL, 1); }
        pen.globalAlpha = 1;
        if (item !== pointed && item.name !== opened) return;
        pen.strokeStyle = colors.ink; pen.lineWidth = item === pointed ? 1.5 : 1; pen.strokeRect(x + .5, y + .5, COLUMN - 1, deep * PITCH + 2);
      });
      sayPool(pool);
    }

    function sayPool({ key, items, label }) {
      const total = items.reduce((sum, item) => sum + item.util.length, 0), freeOnes = items.reduce((sum, item) => sum + freeOf(item), 0);
      const models = [...new Set(items.map((item) => item.model).filter(Boolean))];
      const named = $("#group").value === "tag" && key !== "no tag" ? `<a href="${root}?tag=${encodeURIComponent(key)}">${escaped(key)}</a>` : escaped(key);
      morphChildren(label, parse(`<b>${named}</b><span class="small">${escaped(models.slice(0, 2).join(", ") + (models.length > 2 ? " …" : ""))}</span>`
        + `<span class="small"><b class="go">${freeOnes} free</b> of ${total}, ${items.length} ${items.length === 1 ? "host" : "hosts"}</span>`));
    }

    /* reading one cell */

    function sayCell() {
      if (!pointed) return;
      const item = pointed, letter = item.letters[cell], who = item.users[item.owners[cell]], since = item.since[cell], parts = [];
      if (letter === undefined) { say.textContent = `${item.name}: ${item.note || "no GPU"}`; return; }
      const lasts = typeof since === "number" ? span(Math.max(0, Math.floor(data.now / 60) - data.from - since)) : "";
      parts.push(KINDS[letter][1]);
      if (who || lasts) parts.push([who, lasts].filter(Boolean).join(" "));
      if ("btis".includes(letter)) parts.push(typeof item.util[cell] === "number" ? `${item.util[cell]} %` : "utilization not reported");
      if ("btisn".includes(letter)) parts.push(typeof item.memory[cell] === "number" ? `${item.memory[cell].toFixed(1)} of ${item.total} GB` : "memory not reported");
      say.textContent = `${item.name} GPU ${cell}: ${parts.join(", ")}`;
    }

    function under(event) {
      const pool = groups.find(({ canvas }) => canvas === event.target);
      if (!pool) return null;
      const bounds = pool.canvas.getBoundingClientRect(), column = Math.floor((event.clientX - bounds.left) / COLUMN);
      const line = Math.floor((event.clientY - bounds.top) / pool.line), item = pool.items[line * pool.columns + column];
      if (!item || column >= pool.columns) return null;
      return [item, clamp(Math.floor((event.clientY - bounds.top - line * pool.line - 2) / PITCH), item.letters.length - 1)];
    }

    const clamp = (number, most) => Math.max(0, Math.min(most, number));

    function point(item, index) {
      if (pointed === item && cell === index) return;
      const moved = pointed !== item;
      pointed = item;
      cell = index;
      sayCell();
      if (moved) draw();
    }

    /* one host at the right */

    async function open(item) {
      if (opened !== item.name) { opened = item.name; draw(); rows(); }
      try {
        const news = await (await get(atMoment(new URL(`${root}live?view=rows&since=0&host=${encodeURIComponent(item.name)}`, location.href)))).json();
        if (opened === item.name) showOne(item, news.hosts[item.name] || "");
      } catch (problem) {
        if (opened === item.name && !one.firstElementChild) one.textContent = "The hub did not answer. Choose the host again, or open its page.";
      }
    }

    function showOne(item, html) {
      const tag = item.tag ? ` <a class="tag" href="${root}?tag=${encodeURIComponent(item.tag)}">${escaped(item.tag)}</a>` : "";
      const cards = item.model ? `${item.letters.length} × ${item.model}` : "no GPU", heads = ["State", "GPU", "User", "Since", "Utilization", "Memory, GB"];
      const title = `<h2 class="sec"><a href="${root}hosts/${encodeURIComponent(item.name)}">${escaped(item.name)}</a>${tag} <small>${escaped(cards)}</small></h2>`;
      morphChildren(one, parse(`${title}<table class="gpus mini"><colgroup>${"<col>".repeat(heads.length)}</colgroup><thead><tr>`
        + `${heads.map((head) => `<th scope="col">${head}</th>`).join("")}</tr></thead>${html}</table>`));
    }

    /* the list */

    const above = document.createElement("tbody"), below = document.createElement("tbody");
    for (const part of [above, below]) { part.innerHTML = '<tr aria-hidden="true"><td></td></tr>'; part.className = "rest"; }
    list.before(above);
    list.after(below);

    function rows() {
      const first = Math.max(0, Math.floor(box.scrollTop / TALL) - 4), last = Math.min(visible.length, first + Math.ceil(box.clientHeight / TALL) + 9);
      above.hidden = first === 0;
      below.hidden = last === visible.length;
      $("td", above).style.height = `${first * TALL}px`;
      $("td", below).style.height = `${(visible.length - last) * TALL}px`;
      list.parentNode.setAttribute("aria-rowcount", visible.length + 1);
      morphChildren(list, parse(visible.slice(first, last).map((item, number) => row(item, first + number)).join("")));
    }

    function row(item, number) {
      const known = item.util.filter((value) => typeof value === "number"), letters = [...item.letters], counts = new Map(), freeOnes = freeOf(item);
      const mean = Math.round(known.reduce((sum, value) => sum + value, 0) / known.length), path = encodeURIComponent(item.name);
      for (const who of item.owners) if (typeof who === "number") counts.set(item.users[who], (counts.get(item.users[who]) || 0) + 1);
      const people = [...counts].sort((left, right) => right[1] - left[1]).map(([name, count]) => count > 1 ? `${name} ×${count}` : name).join(", ");
      const spoken = letters.map((letter, index) => `${index} ${KINDS[letter][1].split(",")[0]}`).join(", ");
      const shapes = letters.map((letter) => `<i class="k k-${letter}">${shape(KINDS[letter][0])}</i>`).join("");
      const bar = known.length ? `<div class="bar-n"><meter min="0" max="100" value="${mean}" aria-hidden="true"></meter><span>${mean} %</span></div>` : "";
      return `<tr aria-rowindex="${number + 2}" data-name="${escaped(item.name)}"${item.name === opened ? ' aria-selected="true"' : ""}>`
        + `<th scope="row"><a href="${root}hosts/${path}">${escaped(item.name)}</a></th><td class="soft">${escaped(item.model)}</td>`
        + `<td><span class="shapes" role="img" aria-label="${spoken}">${shapes}</span></td><td class="num${freeOnes ? " go" : ""}"><b>${freeOnes}</b></td>`
        + `<td>${bar}</td><td class="soft">${escaped(people || item.note)}</td></tr>`;
    }

    function show() {
      for (const item of hosts) item.ok = matches(item);
      visible = hosts.filter((item) => item.ok);
      const natural = new Intl.Collator("en", { numeric: true }), by = $("#sort").value, number = (count) => count.toLocaleString("en");
      if (by === "name") visible.sort((left, right) => natural.compare(left.name, right.name));
      if (by === "free") visible.sort((left, right) => freeOf(right) - freeOf(left));
      const asked = least.count ? `, ${least.model}, ${least.count} or more free` : "";
      $("#n").textContent = visible.length === hosts.length ? number(hosts.length) : `${number(visible.length)} of ${number(hosts.length)}${asked}`;
      rows();
      draw();
    }

    place.addEventListener("pointermove", (event) => { const found = under(event); if (found) point(...found); });
    place.addEventListener("click", (event) => { const found = under(event); if (found) { point(...found); open(found[0]); } });
    place.addEventListener("keydown", (event) => {
      const side = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -hosts.length, End: hosts.length }[event.key];
      const deep = { ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (event.key === "Enter" && pointed) { open(pointed); return; }
      if ((!side && !deep) || !hosts.length) return;
      event.preventDefault();
      const all = groups.flatMap(({ items }) => items), next = pointed ? all[clamp(all.indexOf(pointed) + (side || 0), all.length - 1)] : all[0];
      point(next, clamp(pointed ? cell + (deep || 0) : 0, next.letters.length - 1));
    });
    box.addEventListener("scroll", rows);
    box.addEventListener("click", (event) => {
      const line = event.target.closest("tr[data-name]"), item = line && hosts.find(({ name }) => name === line.dataset.name);
      if (!item || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      open(item);
    });
    document.addEventListener("click", (event) => {
      const step = event.target.closest("[data-least]");
      if (!step || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      const again = least.model === step.dataset.model && least.count === Number(step.dataset.least);
      Object.assign(least, again ? { model: "", count: 0 } : { model: step.dataset.model, count: Number(step.dataset.least) });
      box.scrollTop = 0;
      show();
      $("#list").scrollIntoView({ block: "nearest" });
    });
    $("#group").addEventListener("change", () => { group(); draw(); });
    $("#sort").addEventListener("change", show);
    for (const button of $$(".shade button")) button.addEventListener("click", () => {
      shade = button.dataset.shade;
      for (const other of $$(".shade button")) other.setAttribute("aria-pressed", String(other === button));
      draw();
    });
    addEventListener("resize", () => { draw(); rows(); });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    if ($(".pager")) $(".pager").remove();

    return {
      start() {
        group();
        show();
        const first = hosts.find((item) => freeOf(item) > 0) || hosts[0];
        if (first && innerWidth > 1040) open(first);
      },
      clear() { Object.assign(least, { model: "", count: 0 }); wantedWords = ["?"]; },
      filter(asked, state) {
        if (asked.join(" ") === wantedWords.join(" ") && state === wantedState) return;
        wantedWords = asked;
        wantedState = state;
        box.scrollTop = 0;
        show();
      },
      update({ now, rows: fresh, whole, legend }) {
        const known = new Map(hosts.map((item) => [item.name, item]));
        data.now = now;
        if (whole) { hosts = fresh.map((values) => Object.assign(known.get(values[0]) || {}, host(values))); group(); }
        else for (const values of fresh) if (known.has(values[0])) Object.assign(known.get(values[0]), host(values));
        put("#legend", legend);
        show();
        sayCell();
        const item = hosts.find(({ name }) => name === opened);
        if (item) open(item);
      },
    };
  }

  if ($("#cells")) { grid = makeGrid($("#cells")); grid.start(); }

  sayCurl();
  if (live) {
    document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(); });
    setInterval(() => { if (!document.hidden) sayAge(); }, 2000);
    sayAge();
    if (version === 0) ask(); else timer = setTimeout(ask, poll);
  }
  filter();
})();

/* What a page does beyond being read: news in place, filter as one types, keys. Without this script everything still works by links and forms. */
"use strict";
(() => {
  const $ = (selector, within = document) => within.querySelector(selector);
  const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
  const body = document.body;
  const local = !body.classList.contains("is-paged");   // the page holds every row, so that filters need no request
  const address = new URL(location.href);
  const table = $("#gpus"), input = $("#q"), free = $("#free"), none = $("#none"), shown = $("#shown");
  let chosen = address.searchParams.get("free") ? "free" : address.searchParams.get("state") || "";
  let words = [];
  let grid = null;
  document.documentElement.classList.add("has-js");

  /* ---- news are put in place: nodes that stay keep focus, selection and scroll */

  function morph(from, to) {
    if (from.isEqualNode(to)) return;
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

  function remember() {
    const changes = { q: input ? input.value.trim() : "", state: chosen === "free" ? "" : chosen, free: chosen === "free" ? "true" : "" };
    const change = (url) => { for (const [name, value] of Object.entries(changes)) value ? url.searchParams.set(name, value) : url.searchParams.delete(name); return url; };
    history.replaceState(null, "", change(new URL(location.href)));
    for (const link of $$(".gpus thead a, .tools .seg a, .chosen")) link.href = change(new URL(link.href));
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

  /* ---- keys */

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const typing = event.target.closest("input, select, textarea");
    if (event.key === "Escape" && event.target === input) { if (input.value) { input.value = ""; filter(); remember(); } else input.blur(); event.preventDefault(); return; }
    if (typing || $("#keys").open) return;
    if (event.key === " " && event.target.closest("[role=button]")) { event.preventDefault(); event.target.closest("[role=button]").click(); }
    if (event.key === "/" && input) { event.preventDefault(); input.focus(); input.select(); }
    if (event.key === "f" && free) free.click();
    if (event.key === "?") $("#keys").showModal();
    if (event.key === "Escape" && local && input) clear();
  });

  /*GRID*/

  sayCurl();
  if (live) {
    document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(); });
    setInterval(() => { if (!document.hidden) sayAge(); }, 2000);
    sayAge();
    if (version === 0) ask(); else timer = setTimeout(ask, poll);
  }
  filter();
})();

"""The answers above the grid of a large cluster: which hosts can give 8, 4, 2, 1; idle by user; trouble by kind. Pure, of the whole cluster."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Optional, Sequence

from gpuwatch.model.cluster import ClusterNow
from gpuwatch.render import words
from gpuwatch.render.html_gpu_row import Moment
from gpuwatch.render.html_parts import e, host_url, icon, plain_link
from gpuwatch.render.html_summary import nothing_then, section, table, then, troubles
from gpuwatch.render.html_tally import HostTally, Trouble

STEPS = (8, 4, 2, 1)
SHOWN_USERS = 6
SHOWN_MODELS = 10


def large_answers_html(cluster: ClusterNow, tallies: Sequence[HostTally], moment: Moment) -> str:
    """The three tables of a large cluster."""
    if nothing_then(cluster):
        return ""
    return (
        section("a-free", "go", "free", f"Free {then(cluster)}", "hosts with at least so many free", _free(tallies))
        + section("a-idle", "hold", "idle", "Idle, memory held", "no work for", _idle(tallies, moment))
        + section("a-bad", "bad", "warn", "Needs attention", "hosts", _trouble(tallies))
    )


def _free(tallies: Sequence[HostTally]) -> str:
    free: dict[str, Counter[str]] = defaultdict(Counter)
    total: Counter[str] = Counter()
    sizes: dict[str, float] = {}
    for one in tallies:
        for pool in one.pools:
            if not pool.is_slices:
                total[pool.name] += pool.total
                sizes[pool.name] = max(sizes.get(pool.name, 0.0), pool.size)
                if pool.free:
                    free[pool.name][one.host] = len(pool.free)
    order = sorted(total, key=lambda name: (-round(sizes[name] / 2**30), name))
    rows = "".join(_free_row(name, free[name], total[name]) for name in order[:SHOWN_MODELS])
    steps = "".join(f'<th class="num" scope="col">{step}</th>' for step in STEPS)
    head = f'<thead><tr><th scope="col">Model</th><th class="num" scope="col">free GPUs</th>{steps}<th class="num" scope="col">most on</th></tr></thead>'
    return f'<table class="list frees">{head}<tbody>{rows}</tbody></table>'


def _free_row(name: str, by_host: Counter[str], total: int) -> str:
    count = sum(by_host.values())
    hosts = [(step, sum(1 for free in by_host.values() if free >= step)) for step in STEPS]
    steps = "".join(_step(name, step, number) for step, number in hosts)
    best = by_host.most_common(1)
    most = f'<a href="{host_url(best[0][0])}">{e(best[0][0])}</a> <b>{best[0][1]}</b>' if best else '<span class="mute">none</span>'
    return (
        f'<tr><th scope="row">{e(name)}</th><td class="num"><b class="go">{count:,}</b> <span class="mute">of {total:,}</span></td>'
        f'{steps}<td class="num wide">{most}</td></tr>'
    )


def _step(name: str, step: int, number: int) -> str:
    if not number:
        return '<td class="num mute">0</td>'
    address = plain_link(q=name, free="true", view="rows")
    return f'<td class="num"><a href="{address}" data-model="{e(name)}" data-least="{step}">{number:,}</a></td>'


def _idle(tallies: Sequence[HostTally], moment: Moment) -> str:
    count: Counter[str] = Counter()
    held: dict[str, float] = defaultdict(float)
    quiet: dict[str, Optional[float]] = {}
    for one in tallies:
        for gpu in one.idle:
            count[gpu.user] += 1
            held[gpu.user] += gpu.used_bytes or 0.0
            quiet[gpu.user] = min(filter(None, (quiet.get(gpu.user), gpu.no_work_since_at)), default=None)
    if not count:
        return '<p class="note">Nobody holds memory without work.</p>'
    most_first = sorted(count, key=lambda user: -held[user])
    rows = (
        f'<tr><th scope="row"><b>{_who(user)}</b></th><td class="num"><b>{count[user]}</b> {"GPU" if count[user] == 1 else "GPUs"}</td>'
        f'<td class="num">{held[user] / 2**30:,.0f} GB</td><td class="num hold"><b>{moment.since(quiet[user])}</b></td></tr>'
        for user in most_first[:SHOWN_USERS]
    )
    left = len(most_first) - SHOWN_USERS
    return table(rows, f'<p class="note small">and {words.plural(left, "more user")}</p>' if left > 0 else "")


def _who(user: str) -> str:
    return f'<a href="{plain_link(user=user, view="rows")}">{e(user)}</a>' if user else '<span class="mute">no visible user</span>'


def _trouble(tallies: Sequence[HostTally]) -> str:
    kinds: dict[str, list[Trouble]] = defaultdict(list)
    for trouble in troubles(tallies):
        kinds[trouble.kind].append(trouble)
    if not kinds:
        return '<p class="note">Nothing.</p>'
    return table(_trouble_row(kind, found) for kind, found in kinds.items())


def _trouble_row(kind: str, found: list[Trouble]) -> str:
    hosts = list(dict.fromkeys(trouble.host for trouble in found))
    shown = ", ".join(f'<a href="{host_url(host)}">{e(host)}</a>' for host in hosts[:2]) + (" …" if len(hosts) > 2 else "")
    colour = "mute" if found[0].shape == "stale" else "bad"
    return (
        f'<tr><td class="{colour}">{icon(found[0].shape)}</td><td class="num"><b>{len(hosts):,}</b></td>'
        f'<th scope="row">{e(kind)}</th><td class="wide mute">{shown}</td></tr>'
    )

from __future__ import annotations

import pytest

from gpuwatch.model.cluster import ClusterNow, GpuState, GpuView, NodeState, Target
from gpuwatch.model.snapshot import GpuReading, ProcessReading, Snapshot
from gpuwatch.model.view import ViewOptions
from gpuwatch.render.select import HOSTS_PER_PAGE, gpu_count, gpus_of, natural, page_count, select, users
from gpuwatch.render.select import shown as all_shown


def gpu(
    host: str,
    index: int,
    state: str = "busy",
    *,
    name: str = "NVIDIA A100-SXM4-80GB",
    people: tuple[str, ...] = (),
    **values: float,
) -> GpuView:
    processes = tuple(ProcessReading(pid=number, user=user) for number, user in enumerate(people))
    reading = GpuReading(uuid=f"GPU-{host}-{index}", index=index, name=name, processes=processes, **values)
    return GpuView(host, reading, GpuState(state, None))


def node(name: str, *gpus: GpuView, status: str = "up", tags: tuple[str, ...] = ()) -> NodeState:
    snapshot = Snapshot(hostname=f"{name}.lab", gpus=tuple(view.reading for view in gpus)) if gpus else None
    return NodeState(Target(name, name, 7080, tags=tags), "0" * 32, status, None, snapshot=snapshot, gpus=gpus)


CLUSTER = ClusterNow(
    0.0,
    (
        node(
            "gpu10",
            gpu("gpu10", 0, people=("lisa", "bob"), utilization_percent=90, power_watts=300),
            gpu("gpu10", 1, "free", utilization_percent=0),
            tags=("train",),
        ),
        node(
            "gpu2",
            gpu("gpu2", 0, "idle", name="NVIDIA L40S", people=("Lisa",), utilization_percent=5),
            tags=("vision", "train"),
        ),
        node("gone", status="down"),
        node("quiet", gpu("quiet", 0, "unknown")),
    ),
)


def shown(**options: object) -> list[tuple[str, tuple[int, ...]]]:
    return [(found.name, tuple(g.reading.index for g in gpus)) for found, gpus in select(CLUSTER, ViewOptions(**options))]


def test_without_options_every_host_in_order():
    assert shown() == [("gpu10", (0, 1)), ("gpu2", (0,)), ("gone", ()), ("quiet", (0,))]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"query": "lisa"}, [("gpu10", (0,)), ("gpu2", (0,))]),
        ({"query": "LISA l40s"}, [("gpu2", (0,))]),
        ({"query": "lisa nobody"}, []),
        ({"query": "vision"}, [("gpu2", (0,))]),
        ({"query": "gone"}, [("gone", ())]),
        ({"query": "gpu2.lab"}, [("gpu2", (0,))]),
        ({"query": "go a100"}, []),
        ({"user": "lisa"}, [("gpu10", (0,)), ("gpu2", (0,))]),
        ({"user": "lis"}, []),
        ({"host": "gpu2"}, [("gpu2", (0,))]),
        ({"host": "gpu"}, []),
        ({"tag": "train"}, [("gpu10", (0, 1)), ("gpu2", (0,))]),
        ({"model": "a100"}, [("gpu10", (0, 1)), ("quiet", (0,))]),
        ({"free_only": True}, [("gpu10", (1,))]),
        ({"state": "idle"}, [("gpu2", (0,))]),
        ({"state": "down"}, [("gone", ())]),
        ({"state": "free", "tag": "vision"}, []),
    ],
)
def test_filters(options, expected):
    assert shown(**options) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"sort": "name"}, ["gone", "gpu2", "gpu10", "quiet"]),
        ({"sort": "name", "descending": True}, ["quiet", "gpu10", "gpu2", "gone"]),
        ({"descending": True}, ["quiet", "gone", "gpu2", "gpu10"]),
        ({"sort": "utilization"}, ["gpu10", "gpu2", "gone", "quiet"]),
        ({"sort": "utilization", "descending": True}, ["gpu10", "gpu2", "gone", "quiet"]),
        ({"sort": "user"}, ["gpu10", "gpu2", "gone", "quiet"]),
        ({"sort": "state"}, ["gpu10", "gpu2", "quiet", "gone"]),
        ({"sort": "nonsense"}, ["gpu10", "gpu2", "gone", "quiet"]),
    ],
)
def test_sorting_orders_hosts_and_unknown_comes_last(options, expected):
    assert [name for name, _ in shown(**options)] == expected


def test_flat_sorts_gpus():
    assert shown(layout="flat", sort="utilization", descending=True) == [
        ("gpu10", (0,)),
        ("gpu2", (0,)),
        ("gpu10", (1,)),
        ("quiet", (0,)),
        ("gone", ()),
    ]


def test_a_mig_gpu_with_a_free_slice_is_among_the_free():
    sliced = gpu("a", 0, "mig")
    sliced = GpuView("a", sliced.reading, sliced.state, mig_states=(GpuState("busy", None), GpuState("free", None)))
    cluster = ClusterNow(0.0, (node("a", sliced),))
    assert len(select(cluster, ViewOptions(free_only=True))) == 1
    assert len(select(cluster, ViewOptions(state="mig"))) == 1


def test_pages():
    cluster = ClusterNow(0.0, tuple(node(f"n{number}") for number in range(2 * HOSTS_PER_PAGE)))
    assert len(all_shown(cluster, ViewOptions(page=1))) == 2 * HOSTS_PER_PAGE
    assert next(found.name for found, _ in select(cluster, ViewOptions(page=2))) == f"n{HOSTS_PER_PAGE}"
    assert select(cluster, ViewOptions(page=3)) == []
    assert page_count(2 * HOSTS_PER_PAGE, ViewOptions()) == 2
    assert page_count(0, ViewOptions()) == 1


def test_a_host_that_is_shown_whole_is_not_looked_at():
    whole, part = all_shown(CLUSTER, ViewOptions(query="gpu2"))[0], all_shown(CLUSTER, ViewOptions(free_only=True))[0]
    assert (whole[1], gpus_of(whole), gpu_count(whole)) == (None, whole[0].gpus, 1)
    assert (gpus_of(part), gpu_count(part)) == (part[1], 1)
    assert [row[1] for row in all_shown(CLUSTER, ViewOptions())] == [None] * 4


def test_users_once_each_most_memory_first():
    assert users(gpu("a", 0, people=("bob", "lisa", "bob"))) == ("bob", "lisa")


def test_natural_order_survives_odd_digits():
    assert sorted(["a10", "a²", "a2", "a"], key=natural)[:1] == ["a"]
    assert sorted(["a10", "a2"], key=natural) == ["a2", "a10"]

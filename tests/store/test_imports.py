"""Imports: what the tables hold afterwards, whatever the order of the lines, and however often it is broken off."""

import random
from zoneinfo import ZoneInfo

import pytest

from gpuwatch.model.errors import UsageError
from gpuwatch.model.snapshot import GpuReading, ProcessReading, Snapshot
from gpuwatch.rules.limits import Limits
from gpuwatch.store import import_assign, import_streams, imports, intervals, machines, rollups, snapshots, usage
from gpuwatch.store.import_streams import Streams
from gpuwatch.store.snapshots import JournalEntry
from gpuwatch.wire.csv_in.rows import ImportedRow
from gpuwatch.wire.flat import Flattener
from gpuwatch.wire.frame import encode_values
from gpuwatch.wire.numbers import texts_of

GIB = 1024**3
START = 1_790_000_000 // 86400 * 86400  # a midnight
UTC = ZoneInfo("UTC")
ALL = (0.0, 4e9)


def gpu_rows(count=600, gpus=2, step=5.0, start=START, machine=""):
    """By turns, as ``nvidia-smi -l`` writes them: GPU 0 works, GPU 1 is free."""
    for number in range(count):
        for gpu in range(gpus):
            values = {"utilization_percent": 0.0 if gpu else 50.0, "memory_used_bytes": 0.0 if gpu else 8.0 * GIB, "power_watts": 100.0}
            yield ImportedRow(start + number * step + gpu * 0.01, machine, f"index {gpu}", "A100", values)


def begin(store, digest="h1", name="a.csv", label="a", **more):
    return imports.begin(store, digest, name, label, {}, now=START + 1e6, limits=Limits(), zone=UTC, **more)


def run(store, rows, **more):
    job = begin(store, **more)
    for _ in job.run(rows):
        pass
    return job


def contents(store):
    """All that was derived, under the machines' names."""
    found = {}
    for machine in machines.list_all(store):
        for gpu in rollups.subjects(store, machine.id):
            for tier in (60, 900, 3600):
                chunk = rollups.read(store, machine.id, gpu, tier, *ALL)
                found[machine.name, gpu, tier] = (chunk.times, chunk.covered, chunk.columns)
        for row in usage.gpu_days(store, "0000", "9999", [machine.id]):
            found[machine.name, row.day, row.gpu_uuid] = {name: round(value, 3) for name, value in vars(row.sums).items()}
        for row in usage.user_days(store, "0000", "9999", [machine.id]):
            found[machine.name, row.day, row.gpu_uuid, row.user_name] = {name: round(value, 3) for name, value in vars(row.sums).items()}
        for row in intervals.read(store, machine.id, start_at=0, end_at=4e9, limit=10_000):
            one = row.interval
            found[machine.name, "interval", one.gpu_uuid, one.pid, one.start_at] = (one.end_at, one.user, one.peak_memory_bytes)
    return found


def ids(store):
    return [machine.id for machine in machines.list_all(store)]


def gpu_days(store):
    return usage.gpu_days(store, "0000", "9999", ids(store))


def user_days(store):
    return usage.user_days(store, "0000", "9999", ids(store))


def all_intervals(store):
    return [row for id in ids(store) for row in intervals.read(store, id, start_at=0, end_at=4e9, limit=10)]


def fleet(store):
    return {tier: rollups.read(store, rollups.FLEET, rollups.HOST, tier, *ALL) for tier in (60, 900, 3600)}


def test_minutes_days_and_the_machine_of_an_import(store):
    job = run(store, gpu_rows())
    assert job.names() == ["import:a"]
    (machine,) = machines.list_all(store)
    assert machine.name == "import:a"
    assert machine.removed_at is not None  # in no hosts file
    chunk = rollups.read(store, machine.id, "index 0", 60, *ALL)
    assert chunk.times == list(range(START, START + 3000, 60))
    assert set(chunk.covered_seconds()) == {60.0}
    assert set(chunk.floats("utilization_percent").mean) == {50.0}
    assert set(chunk.floats("utilization_percent")[-1]) == {12}
    assert set(rollups.read(store, machine.id, "index 1", 60, *ALL).floats("utilization_percent").maximum) == {0.0, None}  # its last 0.01 s
    busy, free = gpu_days(store)
    assert (busy.gpu_uuid, round(busy.sums.held_seconds), round(busy.sums.busy_seconds), round(busy.sums.unattributed_seconds)) == ("index 0", 3000, 3000, 3000)
    assert (free.gpu_uuid, round(free.sums.measured_seconds), free.sums.held_seconds) == ("index 1", 3000, 0)
    assert round(busy.sums.energy_joules) == 300_000


def test_nothing_of_all_machines_counts_it_until_it_is_given_to_a_host(store):
    run(store, with_processes())
    assert not fleet(store)[60].times
    assert usage.gpu_days(store, "0000", "9999") == usage.user_days(store, "0000", "9999") == []
    for user in (None, "ann"):
        assert intervals.read(store, user=user, start_at=0, end_at=4e9, limit=10) == []
    host_with(store, [("GPU-1", 0, None)])
    give(store, "import:n")
    assert fleet(store)[60].times
    assert len(usage.gpu_days(store, "0000", "9999")) == 1
    assert len(usage.user_days(store, "0000", "9999")) == 2
    for user in (None, "ann"):
        assert intervals.read(store, user=user, start_at=0, end_at=4e9, limit=10)


def orders():
    rows = list(gpu_rows(300))
    yield "by turns", rows
    yield "GPU after GPU", sorted(rows, key=lambda row: (row.gpu, row.at))
    yield "newest first", rows[::-1]
    yield "shuffled", random.Random(1).sample(rows, len(rows))
    yield "each line twice", [row for row in rows for _ in (1, 2)]
    yield "the file twice", rows + rows


@pytest.mark.parametrize(("name", "rows"), list(orders()), ids=lambda value: value if isinstance(value, str) else "")
def test_the_order_of_lines_changes_nothing(file_store, name, rows):
    run(file_store, gpu_rows(300), digest="plain", label="plain")
    run(file_store, rows, digest="other", label="other")
    found = contents(file_store)
    plain = {key[1:]: value for key, value in found.items() if key[0] == "import:plain"}
    assert len(plain) > 4
    assert {key[1:]: value for key, value in found.items() if key[0] == "import:other"} == plain


@pytest.mark.parametrize(
    ("waiting", "order"),
    [(7, "by turns"), (7, "GPU after GPU"), (7, "the file twice"), (100, "by turns"), (100, "newest first"), (601, "GPU after GPU")],
)
def test_how_much_is_gathered_changes_nothing(file_store, monkeypatch, waiting, order):
    rows = dict(orders())[order]
    run(file_store, rows, digest="whole", label="whole")
    monkeypatch.setattr(imports, "MOST_WAITING", waiting)
    run(file_store, rows, digest="parts", label="parts")
    found = contents(file_store)
    whole, parts = ({key[1:]: value for key, value in found.items() if key[0] == name} for name in ("import:whole", "import:parts"))
    assert len(whole) > 4
    assert parts == whole


def test_an_import_that_was_broken_off_goes_on_where_it_was(file_store, monkeypatch):
    monkeypatch.setattr(imports, "MOST_WAITING", 50)
    run(file_store, gpu_rows(500), digest="whole", label="whole")
    broken = begin(file_store)
    steps = iter(gpu_rows(500))

    def until(count):
        for _ in range(count):
            yield next(steps)
        raise KeyboardInterrupt

    for count in (333, 334, 700):
        steps = iter(gpu_rows(500))
        with pytest.raises(KeyboardInterrupt):
            list(broken.run(until(count)))
        broken = begin(file_store)
        assert 0 < broken.resumed_rows <= count
    list(broken.run(gpu_rows(500)))
    found = contents(file_store)
    whole, again = ({key[1:]: value for key, value in found.items() if key[0] == name} for name in ("import:whole", "import:a"))
    assert len(whole) > 4
    assert again == whole


def test_one_that_was_broken_off_must_be_read_in_the_same_way(file_store, monkeypatch):
    monkeypatch.setattr(imports, "MOST_WAITING", 50)
    with pytest.raises(RuntimeError):
        run(file_store, failing(gpu_rows(500)))
    with pytest.raises(UsageError, match="broken off after"):
        imports.begin(file_store, "h1", "a.csv", "a", {"zone": "Europe/Berlin"}, now=START, limits=Limits(), zone=UTC)


def failing(rows):
    for number, row in enumerate(rows):
        if number == 400:
            raise RuntimeError
        yield row


def test_the_same_file_twice_is_refused_unless_again(file_store):
    run(file_store, gpu_rows(10))
    with pytest.raises(UsageError, match=r"a\.csv was imported before, as import:a\. .*--again"):
        begin(file_store)
    assert run(file_store, gpu_rows(10), again=True).names() == ["import:a-2"]
    assert {machine.name for machine in machines.list_all(file_store)} == {"import:a", "import:a-2"}


def test_a_file_whose_machine_was_forgotten_is_new(file_store):
    run(file_store, gpu_rows(10))
    before = contents(file_store)
    machines.forget(file_store, machines.find(file_store, "import:a").id)
    for table in ("rollup", "gpu_day", "user_day", "process_interval"):
        assert file_store.rows(f"SELECT count(*) FROM {table}") == [(0,)]
    assert run(file_store, gpu_rows(10)).names() == ["import:a"]
    assert contents(file_store) == before


def test_an_import_once_more_leaves_what_is_noted_of_the_one_before(file_store):
    run(file_store, gpu_rows(10))
    before = contents(file_store)
    run(file_store, gpu_rows(10), again=True)
    known = {machine.id: machine.name for machine in machines.list_all(file_store)}
    assert {known[id]: one.rows for one in imports.records(file_store) for id in one.machines.values()} == {"import:a": 20, "import:a-2": 20}
    machines.forget(file_store, machines.find(file_store, "import:a-2").id)
    with pytest.raises(UsageError, match=r"a\.csv was imported before, as import:a\. .*--again"):
        begin(file_store)
    assert contents(file_store) == before
    assert run(file_store, gpu_rows(10), again=True).names() == ["import:a-2"]


def test_hosts_that_the_file_names_are_machines_of_their_own(file_store):
    job = run(file_store, [*gpu_rows(5, machine="n1"), *gpu_rows(5, machine="n2"), *gpu_rows(5)])
    assert job.names() == ["import:n1", "import:n2", "import:a"]


def with_processes():
    for number in range(60):
        at = START + number * 60.0
        yield ImportedRow(at, "n", "GPU-1", None, {"utilization_percent": 90.0, "memory_used_bytes": 3.0 * GIB})
        yield ImportedRow(at, "n", "GPU-1", None, {"gpu_memory_bytes": 2.0 * GIB}, "ann", 7, "python")
        if number < 30:
            yield ImportedRow(at, "n", "GPU-1", None, {"gpu_memory_bytes": 1.0 * GIB}, "bob", 8, "sh")


def test_processes_of_a_gpu_have_intervals_and_users_their_share(file_store):
    run(file_store, with_processes())
    found = all_intervals(file_store)
    assert {(row.interval.user, row.interval.pid, row.interval.start_at, row.interval.end_at) for row in found} == {
        ("ann", 7, START, START + 3600), ("bob", 8, START, START + 1800),
    }  # fmt: skip
    ann, bob = user_days(file_store)
    assert (round(ann.sums.held_seconds), round(bob.sums.held_seconds)) == (2700, 900)
    assert (round(ann.sums.memory_gib_hours, 3), round(bob.sums.memory_gib_hours, 3)) == (2.0, 0.5)
    (day,) = gpu_days(file_store)
    assert (round(day.sums.held_seconds), day.sums.unattributed_seconds) == (3600, 0)


def test_processes_that_name_no_gpu_make_up_no_gpu_hours(file_store):
    rows = [ImportedRow(START + number * 60.0, "", "", None, {"gpu_memory_bytes": 1.0 * GIB}, "ann", 7, "python") for number in range(60)]
    users = [ImportedRow(START + number * 300.0, "", "", None, {"gpu_memory_bytes": 1.0 * GIB}, "bob") for number in range(12)]
    run(file_store, rows, digest="p", label="p")
    run(file_store, users, digest="u", label="u")
    assert gpu_days(file_store) == []
    assert all(not rollups.subjects(file_store, machine.id) for machine in machines.list_all(file_store))
    found = {row.user_name: row.sums for row in user_days(file_store)}
    assert {name: (sums.held_seconds, round(sums.memory_gib_hours, 3)) for name, sums in found.items()} == {"ann": (0, 1.0), "bob": (0, 1.0)}
    assert [row.interval.user for row in all_intervals(file_store)] == ["ann"]


def test_gaps_stay_gaps(file_store):
    run(file_store, [*gpu_rows(60, gpus=1), *gpu_rows(60, gpus=1, start=START + 3600)])
    (machine,) = machines.list_all(file_store)
    chunk = rollups.read(file_store, machine.id, "index 0", 60, *ALL)
    assert chunk.times == [*range(START, START + 300, 60), *range(START + 3600, START + 3900, 60)]


def test_a_file_with_more_gpus_than_any_cluster_ends_in_words(file_store, monkeypatch):
    monkeypatch.setattr(import_streams, "MOST_STREAMS", 100)
    rows = (ImportedRow(START + number, "", f"index {number}", None, {}) for number in range(10_000))
    with pytest.raises(UsageError, match="more than 100 GPUs"):
        run(file_store, rows)


def test_days_are_those_of_the_hub_s_zone():
    streams = Streams(Limits(), ZoneInfo("Europe/Berlin"))
    streams.add(ImportedRow(START - 3600.0, "", "index 0", None, {"utilization_percent": 1.0, "memory_used_bytes": 0.0}))
    (portion,) = streams.flush(last=True)
    ((day, gpu),) = portion.gpu_days
    assert (day, gpu) == ("2026-09-21", "index 0")


# ---- giving it to a host


def host_with(store, gpus, name="gpu7", at=START + 1e6):
    machine_id = machines.ensure(store, name, "10.0.0.7", now=1.0)
    readings = tuple(GpuReading(uuid=uuid, index=index, pci_bus_id=bus, processes=(ProcessReading(pid=1),)) for uuid, index, bus in gpus)
    flat = Flattener().flatten(Snapshot(taken_at=at, hostname=name, gpus=readings))
    at_ms = round(at * 1000)
    entry = JournalEntry(machine_id, at_ms, at_ms, flat.shape_id, texts_of(encode_values(flat.values)))
    snapshots.append(store, [entry], {(machine_id, flat.shape_id): flat.shape})
    return machine_id


def give(store, source="import:a", target="gpu7", given=None):
    giver, taker = machines.find(store, source).id, machines.find(store, target).id
    matches = import_assign.match(store, giver, taker, given)
    assert import_assign.overlap(store, giver, taker, matches) is None
    for _ in import_assign.assign(store, giver, taker, matches):
        pass
    return matches


def test_an_import_becomes_part_of_a_host(store):
    host_with(store, [("GPU-a", 0, "00000000:01:00.0"), ("GPU-b", 1, "00000000:02:00.0")])
    run(store, gpu_rows(1500))
    before = {key[1:]: value for key, value in contents(store).items()}
    matches = give(store)
    assert [(one.gpu, one.becomes) for one in matches] == [("index 0", "GPU-a"), ("index 1", "GPU-b")]
    after = contents(store)
    assert {name for name, *_ in after} == {"gpu7"}
    for tier in (60, 900, 3600):
        times, covered, columns = before["index 0", tier]
        assert columns.pop("held_percent")
        assert after["gpu7", "GPU-a", tier] == (times, covered, columns)
    day = "2026-09-21"
    assert after["gpu7", day, "GPU-a"] == before[day, "index 0"]
    assert [machine.name for machine in machines.list_all(store)] == ["gpu7"]
    whole = fleet(store)[3600]
    assert whole.covered_seconds() == [7200.0, 7200.0, 600.0]
    assert set(whole.floats("held_percent").mean) == {50.0}
    with pytest.raises(UsageError, match="imported before, as gpu7"):
        begin(store)


def test_giving_that_is_broken_off_and_done_again_counts_nothing_twice(file_store):
    host_with(file_store, [("GPU-a", 0, None), ("GPU-b", 1, None)])
    run(file_store, gpu_rows(1500))
    expected = {key[1:]: value for key, value in contents(file_store).items()}
    giver, taker = machines.find(file_store, "import:a").id, machines.find(file_store, "gpu7").id
    for count in range(1, 8):
        steps = import_assign.assign(file_store, giver, taker, import_assign.match(file_store, giver, taker))
        for _ in range(count):
            next(steps)
        steps.close()
    give(file_store)
    after = contents(file_store)
    assert {key[1:]: value for key, value in after.items() if len(key) == 3 and isinstance(key[2], str)} == {
        (day, {"index 0": "GPU-a", "index 1": "GPU-b"}[gpu]): value
        for (day, gpu, *_), value in expected.items() if isinstance(value, dict)
    }  # fmt: skip
    assert fleet(file_store)[3600].covered_seconds() == [7200.0, 7200.0, 600.0]


@pytest.mark.parametrize(
    ("named", "becomes"), [("00000000:01:00.0", "GPU-a"), ("0000:02:00.0", "GPU-b"), ("GPU-b", "GPU-b"), ("index 5", "index 5"), ("GPU-old", "GPU-old")]
)
def test_how_gpus_are_matched(file_store, named, becomes):
    host_with(file_store, [("GPU-a", 0, "00000000:01:00.0"), ("GPU-b", 1, "00000000:02:00.0")])
    run(file_store, [ImportedRow(START + second, "", named, None, {"utilization_percent": 1.0}) for second in range(5)])
    ((gpu, target, why),) = give(file_store)
    assert (gpu, target) == (named, becomes)
    assert why


def test_gpus_named_by_hand(file_store):
    host_with(file_store, [("GPU-a", 0, None)])
    run(file_store, gpu_rows(5, gpus=1))
    giver, taker = machines.find(file_store, "import:a").id, machines.find(file_store, "gpu7").id
    with pytest.raises(UsageError, match=r"no GPU 'index 4'.*index 0"):
        import_assign.match(file_store, giver, taker, {"index 4": "GPU-x"})
    assert give(file_store, given={"index 0": "GPU-x"})[0].becomes == "GPU-x"


def test_time_that_both_measured_is_found(file_store):
    host_with(file_store, [("GPU-a", 0, None)])
    run(file_store, gpu_rows(100, gpus=1), digest="1", label="one")
    run(file_store, gpu_rows(100, gpus=1, start=START + 300), digest="2", label="two")
    give(file_store, "import:one")
    giver, taker = machines.find(file_store, "import:two").id, machines.find(file_store, "gpu7").id
    found = import_assign.overlap(file_store, giver, taker, import_assign.match(file_store, giver, taker))
    assert found == ("GPU-a", START + 300)


def test_logs_that_follow_each_other_do_not_overlap(file_store):
    host_with(file_store, [("GPU-a", 0, None)])
    run(file_store, gpu_rows(100, gpus=1), digest="1", label="one")
    run(file_store, gpu_rows(100, gpus=1, start=START + 500), digest="2", label="two")
    give(file_store, "import:one")
    alone = covered(file_store)
    give(file_store, "import:two")
    assert covered(file_store) == pytest.approx(2 * alone)
    assert alone >= 495


def covered(store):
    """Seconds that are measured of the host's GPU."""
    host = machines.find(store, "gpu7").id
    return sum(rollups.read(store, host, "GPU-a", 60, START - 3600, START + 7200).covered_seconds())


def test_only_imported_machines_can_be_given(file_store):
    host = host_with(file_store, [("GPU-a", 0, None)])
    other = machines.ensure(file_store, "gpu8", "10.0.0.8")
    with pytest.raises(UsageError, match="Only an imported machine"):
        list(import_assign.assign(file_store, host, other, []))
    assert machines.find(file_store, "gpu7")


def test_product_names_are_kept_and_go_with_the_readings(store):
    run(store, gpu_rows(count=50))
    source = machines.find(store, "import:a").id
    assert imports.gpu_names(store, source) == {"index 0": "A100", "index 1": "A100"}
    target = machines.ensure(store, "gpu7", "10.0.0.7")
    matches = import_assign.match(store, source, target, {"index 0": "GPU-0"})
    for _ in import_assign.assign(store, source, target, matches):
        pass
    assert imports.gpu_names(store, target) == {"GPU-0": "A100", "index 1": "A100"}
    assert imports.gpu_names(store, source) == {}
    machines.forget(store, target)
    assert imports.gpu_names(store, target) == {}

from gpuwatch.store import machines, states
from gpuwatch.store.states import GpuStateRow


def test_states_survive_and_are_replaced(store, machine):
    first = GpuStateRow(machine, "GPU-1", "busy", 1790000000.25, True, None, b"\x01\xff")
    second = GpuStateRow(machine, "GPU-2", "unknown", None, False, 12.5)
    states.save(store, [first, second, GpuStateRow("0" * 32, "GPU-3", "free", 1.0)])
    assert states.load(store) == {(machine, "GPU-1"): first, (machine, "GPU-2"): second}
    later = GpuStateRow(machine, "GPU-1", "idle", None, False, 3.0, b"")
    states.save(store, [later])
    assert states.load(store) == {(machine, "GPU-1"): later, (machine, "GPU-2"): second}


def test_thousands_at_once(store):
    ids = machines.ensure_all(store, {f"gpu{n}": "x" for n in range(500)}).values()
    rows = [GpuStateRow(id, f"GPU-{n}", "free", float(n)) for id in ids for n in range(8)]
    states.save(store, rows)
    assert states.load(store) == {(row.machine_id, row.gpu_uuid): row for row in rows}

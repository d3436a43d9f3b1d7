"""Run as a program: appends and packs without end, and prints the number of each snapshot that the store says it has kept."""

import os
import sys

from tests.store.samples import docs_for, journal_entry

from gpuwatch.store import machines, snapshots
from gpuwatch.store.database import open_store


def main(path, first):
    store = open_store(path)
    ids = list(machines.ensure_all(store, {"gpu01": "a", "gpu02": "b"}).values())
    number = first
    while True:
        snapshots.append(store, [journal_entry(machine_id, number) for machine_id in ids], docs_for(*ids))
        os.write(1, b"%d\n" % number)
        snapshots.pack_due(store, 0.0, 1, per_block=6)
        number += 1


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

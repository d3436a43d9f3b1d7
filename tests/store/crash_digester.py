"""Run as a program: packs what waits, digests it, and prints a line for each block. To be killed at any moment."""

import os
import sys

from gpuwatch.store import machines, packing, rollups
from gpuwatch.store.database import open_store
from gpuwatch.store.digests import Digester


def main(path):
    rollups.SETTLE_AT = rollups.SETTLE_FLEET_AT = 2
    store = open_store(path)
    (machine,) = machines.list_all(store)
    os.write(1, b"open\n")
    while packing.pack_machine(store, machine.id, 9, digester=Digester()):
        os.write(1, b"block\n")
    os.write(1, b"done\n")


if __name__ == "__main__":
    main(sys.argv[1])

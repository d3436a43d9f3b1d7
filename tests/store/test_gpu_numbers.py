"""Numbers of GPUs: once per UUID and for ever, the same on both databases, whoever asks first."""

import threading

from gpuwatch.store import gpu_numbers
from gpuwatch.store.database import open_store


def test_a_number_is_given_once_and_kept(store):
    assert gpu_numbers.assign(store, ["b", "a", "b"]) == {"b": 0, "a": 1}
    assert gpu_numbers.assign(store, ["c", "a"]) == {"b": 0, "a": 1, "c": 2}
    assert gpu_numbers.assign(store, []) == gpu_numbers.load(store) == {"b": 0, "a": 1, "c": 2}


def test_hubs_of_one_database_agree(url):
    stores = [open_store(url) for _ in range(3)]
    uuids = [f"GPU-{number}" for number in range(40)]
    found = [{} for _ in stores]

    def ask(place):
        mine = uuids[place * 10 :] + uuids[: place * 10]
        for uuid in mine:
            found[place].update({one: number for one, number in gpu_numbers.assign(stores[place], [uuid]).items() if one == uuid})

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(stores))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1] == found[2]
    assert sorted(found[0].values()) == list(range(40))
    for store in stores:
        store.close()


def test_made_up_uuids_cannot_fill_the_table(store, monkeypatch):
    monkeypatch.setattr(gpu_numbers, "MOST", 3)
    assert gpu_numbers.assign(store, ["a", "b", "c", "d"]) == {"a": 0, "b": 1, "c": 2}
    assert gpu_numbers.assign(store, ["e", "a"]) == {"a": 0, "b": 1, "c": 2}

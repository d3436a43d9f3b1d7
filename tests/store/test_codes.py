"""Codes: used once, by whoever is first, for as long as they hold; the same on both databases."""

import re
import threading

from gpuwatch.store import codes

NOW = 1_790_000_000.0


def test_a_code_is_used_once_and_only_while_it_holds(store):
    code = codes.new(store, "gpu7", 60, NOW)
    assert re.fullmatch(r"([A-HJ-NP-Z2-9]{5}-){3}[A-HJ-NP-Z2-9]{5}", code)
    assert codes.use(store, code, NOW + 60) is None
    used = codes.use(store, f" {code.lower()} ", NOW + 59)
    assert used is not None
    assert (used.for_name, used.used_at, used.label) == ("gpu7", NOW + 59, code[:5])
    assert codes.use(store, code, NOW + 1) is None
    codes.used_by(store, code, "gpu7")
    assert [(one.used_by, one.expires_at) for one in codes.list_all(store)] == [("gpu7", NOW + 60)]
    for wrong in ("", "x", code[:-1] + "?", "\udcff"):
        assert codes.use(store, wrong, NOW) is None


def test_of_many_at_once_one_has_it(store):
    code = codes.new(store, "", 60, NOW)
    found = []
    threads = [threading.Thread(target=lambda: found.append(codes.use(store, code, NOW) is not None)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [False] * 7 + [True]


def test_the_code_itself_is_nowhere(store):
    code = codes.new(store, "", 60, NOW)
    assert code[5:] not in str(store.rows("SELECT * FROM enroll_code"))
    assert code.replace("-", "") not in str(store.rows("SELECT * FROM enroll_code"))


def test_codes_are_ended_by_label_or_name_and_old_ones_go(store):
    one, two, three = (codes.new(store, name, 60, NOW) for name in ("", "gpu7", ""))
    assert codes.revoke(store, one[:5].lower()) == 1
    assert codes.revoke(store, "gpu7") == 1
    assert codes.revoke(store, "") == 0
    assert codes.use(store, one, NOW) is None
    assert codes.use(store, two, NOW) is None
    codes.use(store, three, NOW)
    assert codes.revoke(store, three[:5]) == 0
    codes.new(store, "", 60, NOW + 40 * 86400)
    assert len(codes.list_all(store)) == 1

"""Wrong passwords by address."""

from gpuwatch.serve.throttle import FAILURES, MOST_ADDRESSES, Throttle


def fail(throttle, address, times, now=100.0):
    for _ in range(times):
        throttle.failed(address, now)


def test_nine_are_free_the_tenth_makes_wait_a_minute_from_the_first():
    throttle = Throttle()
    fail(throttle, "192.0.2.1", FAILURES - 1, 100.0)
    assert throttle.wait_seconds("192.0.2.1", 100.0) == 0
    fail(throttle, "192.0.2.1", 1, 130.0)
    assert throttle.wait_seconds("192.0.2.1", 130.0) == 30
    assert throttle.wait_seconds("192.0.2.1", 159.5) == 1
    assert throttle.wait_seconds("192.0.2.1", 160.0) == 0


def test_slow_failures_never_make_wait():
    throttle = Throttle()
    for second in range(0, 1000, 7):
        throttle.failed("192.0.2.1", float(second))
        assert throttle.wait_seconds("192.0.2.1", float(second)) == 0


def test_another_number_of_failures():
    throttle = Throttle(3)
    fail(throttle, "key:a", 2)
    assert throttle.wait_seconds("key:a", 100.0) == 0
    fail(throttle, "key:a", 1)
    assert throttle.wait_seconds("key:a", 100.0) == 60


def test_others_are_not_kept_waiting():
    throttle = Throttle()
    fail(throttle, "192.0.2.1", 50)
    assert throttle.wait_seconds("192.0.2.2", 100.0) == 0


def test_a_network_of_ipv6_counts_as_one():
    throttle = Throttle()
    for number in range(FAILURES):
        throttle.failed(f"2001:db8:0:1::{number:x}", 100.0)
    assert throttle.wait_seconds("2001:db8:0:1:ffff::9", 100.0) == 60
    assert throttle.wait_seconds("2001:db8:0:2::1", 100.0) == 0
    fail(throttle, "fe80::1%eth0", FAILURES)
    assert throttle.wait_seconds("fe80::2", 100.0) == 60


def test_it_does_not_grow_without_bound_and_forgets_the_oldest():
    throttle = Throttle()
    fail(throttle, "first", FAILURES)
    for number in range(MOST_ADDRESSES):
        throttle.failed(f"address {number}", 100.0)
    assert len(throttle._failures) == MOST_ADDRESSES
    assert throttle.wait_seconds("first", 100.0) == 0
    assert throttle.wait_seconds("", 100.0) == 0

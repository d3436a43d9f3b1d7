"""Bodies kept ready: rendered at most once a second, shared by all readers, bounded."""

import gzip
import threading
import time

import pytest

from gpuwatch.model.errors import GpuwatchError
from gpuwatch.web.replies import MOST_BODIES, Body, Pages, Streams, past_pages


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def maker(calls):
    def make():
        calls.append(1)
        return Body(f"body {len(calls)}".encode(), "text/plain")

    return make


def test_a_body_is_made_once_while_nothing_changes():
    clock, calls = Clock(), []
    pages = Pages(clock)
    first = pages.get("k", 1, maker(calls))
    clock.now += 5
    assert pages.get("k", 1, maker(calls)) is first
    assert len(calls) == 1


def test_a_change_is_shown_but_at_most_once_a_second():
    clock, calls = Clock(), []
    pages = Pages(clock)
    pages.get("k", 1, maker(calls))
    clock.now += 0.5
    assert pages.get("k", 2, maker(calls)).data == b"body 1"
    clock.now += 0.6
    assert pages.get("k", 2, maker(calls)).data == b"body 2"


def test_spans_grow_without_a_change():
    clock, calls = Clock(), []
    pages = Pages(clock)
    pages.get("k", 1, maker(calls))
    clock.now += 11
    assert pages.get("k", 1, maker(calls)).data == b"body 2"


def test_while_one_renders_others_get_the_last():
    clock, calls = Clock(), []
    pages = Pages(clock)
    pages.get("k", 1, maker(calls))
    clock.now += 2
    entered, leave = threading.Event(), threading.Event()

    def slow():
        entered.set()
        assert leave.wait(50)
        return Body(b"new", "text/plain")

    thread = threading.Thread(target=pages.get, args=("k", 2, slow))
    thread.start()
    assert entered.wait(50)
    assert pages.get("k", 2, maker(calls)).data == b"body 1"
    leave.set()
    thread.join(50)
    assert pages.get("k", 2, maker(calls)).data == b"new"


def test_keys_do_not_share_bodies_and_their_number_is_bounded():
    pages, calls = Pages(Clock()), []
    for number in range(MOST_BODIES + 50):
        pages.get(("k", number), 1, maker(calls))
    assert pages.get(("k", MOST_BODIES + 49), 1, maker(calls)).data == f"body {MOST_BODIES + 50}".encode()
    assert len(pages._kept) == MOST_BODIES


def test_the_gzip_is_of_the_data():
    body = Body(b"x" * 5000, "text/plain")
    assert gzip.decompress(body.packed) == body.data
    assert body.packed is body.packed
    assert body.etag == Body(b"x" * 5000, "text/plain").etag != Body(b"y", "text/plain").etag


def test_nothing_stays_of_what_cannot_be_rendered():
    pages = Pages(Clock())

    def fail():
        raise KeyError("no such host")

    for number in range(50):
        with pytest.raises(KeyError):
            pages.get(("host", number), 1, fail)
    assert not pages._rendering


def test_long_answers_leave_threads_for_others():
    streams = Streams(2)
    first, second = streams.take([b"a", b"b"]), streams.take(iter([b"c"]))
    with pytest.raises(GpuwatchError, match="Try again"):
        streams.take([b"d"])
    assert list(first) == [b"a", b"b"]
    first.close()
    third = streams.take([b"e"])
    with pytest.raises(GpuwatchError):
        streams.take([b"f"])
    del second  # never begun, never closed
    assert list(streams.take([b"g"])) == [b"g"]
    third.close()


def test_a_long_answer_that_fails_is_over():
    def fail():
        yield b"a"
        raise KeyError("damaged")

    streams = Streams(1)
    broken = streams.take(fail())
    with pytest.raises(KeyError):
        list(broken)
    assert list(streams.take([b"b"])) == [b"b"]


def test_bodies_that_nobody_may_see_again_are_dropped():
    clock, calls = Clock(), []
    pages = Pages(clock)
    pages.get("old", 1, maker(calls))
    clock.now += 11
    pages.get("new", 1, maker(calls))
    assert list(pages._kept) == ["new"]
    assert pages._bytes == len(b"body 2")


def test_a_view_that_takes_long_is_rendered_more_rarely():
    clock, calls = Clock(), []
    pages = Pages(clock)

    def slow():
        clock.now += 0.3
        return maker(calls)()

    pages.get("k", 1, slow)
    clock.now += 2.9
    assert pages.get("k", 2, slow).data == b"body 1"
    clock.now += 0.2
    assert pages.get("k", 3, slow).data == b"body 2"


def test_bodies_of_the_past_are_few_and_kept_for_a_minute():
    clock, calls = Clock(), []
    pages = past_pages(clock)
    first = pages.get(0, 0, maker(calls))
    clock.now += 59
    assert pages.get(0, 0, maker(calls)) is first
    clock.now += 2
    assert pages.get(0, 0, maker(calls)) is not first
    for number in range(100):
        pages.get(number, 0, maker(calls))
    assert len(pages._kept) <= 60


def test_a_large_body_is_packed_once_however_many_want_it(monkeypatch) -> None:
    packed: list[int] = []
    plain = gzip.compress

    def slow(data: bytes, level: int, mtime: int) -> bytes:
        packed.append(level)
        time.sleep(0.05)
        return plain(data, level, mtime=mtime)

    monkeypatch.setattr("gpuwatch.web.replies.gzip.compress", slow)
    body = Body(b"a" * 5000, "text/plain")
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(body.packed)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert packed == [5]
    assert [gzip.decompress(one) for one in found] == [body.data] * 4


def test_the_next_body_of_a_view_that_is_asked_for_packed_is_packed_when_it_is_shown() -> None:
    now = [100.0]
    pages = Pages(lambda: now[0])
    first = pages.get("a", 1, lambda: Body(b"1", "text/plain"))
    now[0] += 2
    second = pages.get("a", 2, lambda: Body(b"2", "text/plain"))
    assert not second.is_packed, "nobody asked for the first one's gzip"
    assert not first.is_packed
    assert gzip.decompress(second.packed) == b"2"
    now[0] += 2
    third = pages.get("a", 3, lambda: Body(b"3", "text/plain"))
    assert third.is_packed

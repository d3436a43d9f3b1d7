"""Signed requests: what is taken, what is refused, and what a refusal tells whom."""

import hashlib
import hmac
import os
import threading

import pytest

from gpuwatch.wire.signing import Refused, Signer, Verifier, derive_key

KEY = derive_key("correct horse")
NOW = 1_800_000_000.25
BODY = b'{"flat": ""}'
ASKED = ("POST", "/get-status", BODY)


def verifier(**more):
    return Verifier({"password": KEY}.get, **more)


def reason(check, *arguments):
    with pytest.raises(Refused) as caught:
        check(*arguments)
    return caught.value


def test_a_signed_request_is_taken_and_names_its_key():
    header = Signer("password", KEY).header(*ASKED, NOW)
    assert verifier().check(header, *ASKED, NOW + 1) == "password"


def test_the_header_is_what_the_page_says():
    nonce = "0123456789abcdef" * 2
    text = f"gpuwatch-1\npassword\nPOST\n/get-status\n1800000000.250\n{nonce}\n{hashlib.sha256(BODY).hexdigest()}"
    mac = hmac.new(KEY, text.encode(), "sha256").hexdigest()
    assert Signer("password", KEY).header(*ASKED, NOW, nonce) == f"Gpuwatch key=password, time=1800000000.250, nonce={nonce}, mac={mac}"


def test_the_key_is_made_slowly_of_the_password_alone():
    assert derive_key("a") == hashlib.pbkdf2_hmac("sha256", b"a", b"gpuwatch: key of a password, version 1", 50_000)
    assert derive_key("a") != derive_key("b")
    assert derive_key("\ud800")


def test_neither_password_nor_key_is_in_the_header():
    header = Signer("password", KEY).header(*ASKED, NOW)
    assert "correct" not in header
    assert KEY.hex() not in header


@pytest.mark.parametrize(
    "asked",
    [("GET", "/get-status", BODY), ("POST", "/get-status?x=1", BODY), ("POST", "/metrics", BODY), ("POST", "/get-status", BODY + b" ")],
)
def test_a_changed_request_is_refused(asked):
    header = Signer("password", KEY).header(*ASKED, NOW)
    assert reason(verifier().check, header, *asked, NOW).reason == "wrong mac"


@pytest.mark.parametrize("part", ["time=1800000000.250", "nonce=", "mac=", "key=password"])
def test_each_part_of_the_header_is_under_the_mac(part):
    other = {"time=1800000000.250": "time=1800000001.250", "key=password": "key=other"}
    header = Signer("password", KEY).header(*ASKED, NOW)
    if part in other:
        forged = header.replace(part, other[part])
    else:
        at = header.index(part) + len(part)
        forged = header[:at] + ("1" if header[at] != "1" else "2") + header[at + 1 :]
    both = Verifier({"password": KEY, "other": KEY}.get)
    assert reason(both.check, forged, *ASKED, NOW).reason == "wrong mac"


def test_a_request_is_taken_once():
    check, header = verifier(), Signer("password", KEY).header(*ASKED, NOW)
    check.check(header, *ASKED, NOW)
    refused = reason(check.check, header, *ASKED, NOW + 60)
    assert (refused.reason, refused.has_key) == ("replayed", True)
    assert str(refused) == "The request came before: it is taken once only."


@pytest.mark.parametrize(("off", "words"), [(312, "312 s ahead of yours"), (-312, "312 s behind yours")])
def test_a_wrong_clock_is_named(off, words):
    refused = reason(verifier().check, Signer("password", KEY).header(*ASKED, NOW), *ASKED, NOW + off)
    assert refused.reason == "stale"
    assert refused.skew_seconds == off
    assert words in str(refused)
    assert "Next: " in str(refused)


def test_who_has_no_key_hears_neither_the_time_nor_which_keys_there_are():
    old = NOW + 10_000
    wrong = reason(verifier().check, Signer("password", derive_key("no")).header(*ASKED, NOW), *ASKED, old)
    unknown = reason(verifier().check, Signer("nobody", derive_key("no")).header(*ASKED, NOW), *ASKED, old)
    assert (wrong.reason, unknown.reason) == ("wrong mac", "unknown key")
    assert str(wrong) == str(unknown) == "The signature of the request is wrong."
    assert [(one.skew_seconds, one.has_key) for one in (wrong, unknown)] == [(None, False)] * 2


@pytest.mark.parametrize("stranger", [b"\0" * 32, b""])
def test_an_unknown_key_has_no_key(stranger):
    assert reason(verifier().check, Signer("nobody", stranger).header(*ASKED, NOW), *ASKED, NOW).reason == "unknown key"


GOOD = Signer("password", KEY).header(*ASKED, NOW)


@pytest.mark.parametrize(
    "header",
    [
        "Basic YTpi",
        "Gpuwatch",
        GOOD + " ",
        GOOD + "\n",
        GOOD.upper(),
        GOOD.replace("time=1800000000.250", "time=nan"),
        GOOD.replace("time=1800000000.250", "time=-1.000"),
        GOOD.replace("time=1800000000.250", "time=١800000000.250"),
        GOOD.replace("key=password", "key=" + "p" * 65),
        GOOD.replace(", ", ","),
        "x" * 100_000,
    ],
)
def test_what_is_no_header_of_ours_is_malformed(header):
    assert reason(verifier().check, header, *ASKED, NOW).reason == "malformed"


@pytest.mark.parametrize("header", [None, ""])
def test_no_header_is_missing(header):
    assert reason(verifier().check, header, *ASKED, NOW).reason == "missing"


def test_nonces_are_kept_as_long_as_their_time_is_good_and_no_longer():
    check, signer = verifier(), Signer("password", KEY)
    for second in range(1000):
        check.check(signer.header(*ASKED, NOW + second), *ASKED, NOW + second)
    assert 120 <= len(check._seen["password"].nonces) <= 122


def test_a_flood_of_good_requests_shrinks_the_window_and_lets_nothing_in_twice():
    check, signer = verifier(most_nonces=10), Signer("password", KEY)
    headers = [signer.header(*ASKED, NOW + number / 100) for number in range(30)]
    for header in headers:
        check.check(header, *ASKED, NOW + 1)
    assert {reason(check.check, header, *ASKED, NOW + 1).reason for header in headers[:20]} == {"stale"}
    assert {reason(check.check, header, *ASKED, NOW + 1).reason for header in headers[20:]} == {"replayed"}
    assert len(check._seen["password"].nonces) == 10


def test_one_key_s_flood_costs_the_others_nothing():
    check = Verifier({"a": KEY, "b": KEY}.get, most_nonces=4)
    for number in range(20):
        check.check(Signer("a", KEY).header(*ASKED, NOW + number), *ASKED, NOW + 20)
    assert check.check(Signer("b", KEY).header(*ASKED, NOW - 50), *ASKED, NOW + 20) == "b"


def test_what_was_signed_before_the_memory_began_is_refused():
    check = verifier(not_before=NOW)
    assert reason(check.check, Signer("password", KEY).header(*ASKED, NOW - 1), *ASKED, NOW + 2).skew_seconds is None
    assert check.check(Signer("password", KEY).header(*ASKED, NOW + 1), *ASKED, NOW + 2)


def test_of_many_threads_with_one_request_one_is_served():
    check, header, taken = verifier(), Signer("password", KEY).header(*ASKED, NOW), []
    start = threading.Barrier(8)

    def ask():
        start.wait()
        try:
            taken.append(check.check(header, *ASKED, NOW))
        except Refused as refused:
            assert refused.reason == "replayed"

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken == ["password"]


def test_a_key_that_was_taken_away_leaves_nothing():
    check = verifier()
    check.check(GOOD, *ASKED, NOW)
    check.forget("password")
    assert check._seen == {}


def test_a_forked_process_gives_other_nonces():
    signer = Signer("password", KEY)
    signer.header(*ASKED, NOW)  # more are drawn now than are given
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, "\n".join(signer.header(*ASKED, NOW) for _ in range(70)).encode())
        os._exit(0)
    os.close(write)
    with open(read) as pipe:
        theirs = pipe.read().split("\n")
    os.waitpid(child, 0)
    ours = [signer.header(*ASKED, NOW) for _ in range(70)]
    assert len(set(theirs) | set(ours)) == 140

"""Who the hub does not let in: slowed, counted, and nobody else held up."""

from gpuwatch.hub.guesses import Guesses
from gpuwatch.serve.throttle import FAILURES
from gpuwatch.wire.signing import Refused


def told(guesses):
    return {reason: count for reason, count in guesses.refusals.counts().items() if count}


def test_wrong_keys_of_an_address_wait_after_ten():
    guesses = Guesses()
    assert [guesses.refused(Refused("wrong mac"), "192.0.2.1") for _ in range(FAILURES)] == [0] * FAILURES
    assert guesses.refused(Refused("unknown key"), "192.0.2.1") > 0
    assert guesses.refused(Refused("malformed"), "192.0.2.2") == 0
    assert told(guesses) == {"wrong signature": FAILURES + 1, "too many tries": 1}


def test_who_has_the_key_is_no_guesser():
    guesses = Guesses()
    assert {guesses.refused(Refused(reason, 300.0), "192.0.2.1") for reason in ("stale", "replayed") * 20} == {0}
    assert told(guesses) == {"stale": 20, "replayed": 20}
    assert guesses.refused(Refused("wrong mac"), "192.0.2.1") == 0


def test_codes_are_counted_apart():
    guesses = Guesses()
    for _ in range(FAILURES + 5):
        guesses.refused(Refused("wrong mac"), "192.0.2.1")
    assert guesses.codes.wait_seconds("192.0.2.1", 0.0) == 0


def test_tokens_are_slowed_also_the_right_one_of_that_address():
    guesses = Guesses()
    assert [guesses.token(False, "192.0.2.1") for _ in range(FAILURES)] == [False] * FAILURES
    assert guesses.token(True, "192.0.2.1") is False
    assert guesses.token(True, "192.0.2.2") is True
    assert told(guesses) == {"wrong token": FAILURES, "too many tries": 1}

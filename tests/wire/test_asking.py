"""The hub's question to a node, byte for byte."""

import json
import time

from gpuwatch.wire import asking
from gpuwatch.wire.signing import Verifier, derive_key


def parts(raw):
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return first, dict(line.split(": ", 1) for line in lines), body


def test_the_question_is_a_signed_post():
    question = asking.Question("gpu1:7080", asking.signer_of("secret word"))
    first, headers, body = parts(question.request("", 1.0))
    assert first == "POST /get-status HTTP/1.1"
    assert headers.pop("Authorization").startswith("Gpuwatch key=password, time=1.000, ")
    assert headers == {"Host": "gpu1:7080", "Content-Type": "application/json", "Accept": "application/x-gpuwatch-frame", "Content-Length": str(len(body))}
    assert json.loads(body) == {"flat": ""}


def test_shapes_change_and_each_request_verifies_once():
    question = asking.Question("gpu1:7080", asking.signer_of("secret word"))
    verifier = Verifier({"password": derive_key("secret word")}.get)
    for shape in ("", "a" * 32, "a" * 32, ""):
        raw = question.request(shape, time.time())
        _, headers, body = parts(raw)
        assert json.loads(body) == {"flat": shape}
        assert verifier.check(headers["Authorization"], "POST", "/get-status", body, time.time()) == "password"
        assert b"secret" not in raw

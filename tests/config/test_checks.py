"""Each problem of a hub's settings, and none where there is none."""

import dataclasses

from gpuwatch.config.checks import check_hub, is_loopback
from gpuwatch.config.hosts import parse_hosts
from gpuwatch.config.settings import CompatSettings, HubSettings


def ids(text, **settings):
    return [problem.id for problem in check_hub(dataclasses.replace(HubSettings(), **settings), parse_hosts(text)[0])]


def test_nothing_is_wrong_with_a_password_and_hosts():
    assert ids("dgx-a\n", password="secret") == []


def test_an_empty_file():
    assert ids("# nothing\n") == ["hosts.empty"]


def test_a_hub_whose_nodes_push_needs_no_hosts():
    assert check_hub(HubSettings(), [], sends=True) == []
    problem = check_hub(HubSettings(), [])[0]
    assert "one name or address a line" in problem.hint
    assert "gpuwatch enroll create" in problem.hint


def test_a_hub_of_old_systems_needs_no_hosts_and_a_token_of_its_own():
    taken = CompatSettings(vesta_token="0000")
    assert ids("", compat=taken) == []
    assert ids("", compat=taken, host="0.0.0.0") == ["compat.vesta_token"]
    assert ids("", compat=CompatSettings(vesta_token="other", workers="open"), host="0.0.0.0") == []


def test_the_default_password_is_for_loopback():
    assert ids("dgx-a\n") == ids("dgx-a\n", password="8888") == ["password.default"]
    (problem,) = check_hub(HubSettings(), parse_hosts("dgx-a\n")[0])
    assert problem.message.startswith("1 host is asked")
    assert ids("127.0.0.1\nlocalhost\n[::1]\ndgx-a password_file=/p\n") == []


def test_a_deadline_longer_than_stale():
    assert ids("127.0.0.1", poll_deadline=20.0, interval=1.0) == ["poll.deadline"]


def test_loopback():
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "10.0.0.1", "::", "dgx-a")))

"""``gpuwatch enroll`` on a database: codes, lists, ends; nothing secret is shown."""

import json

import pytest
from click.testing import CliRunner

from gpuwatch.cli.enroll import command
from gpuwatch.model.errors import UsageError
from gpuwatch.store import codes, enrolled
from gpuwatch.store.database import open_store


@pytest.fixture
def url(tmp_path):
    made = f"sqlite:///{tmp_path / 'hub.db'}"
    open_store(made).close()
    return made


def run(url, *words):
    return CliRunner().invoke(command, ["--database", url, *words], catch_exceptions=False)


def lines(output):
    return [line for line in output.splitlines() if line.count("-") == 3 and " " not in line]


def test_codes_are_made_listed_and_ended(url):
    made = lines(run(url, "create", "--count", "3", "--valid", "10min").output)
    assert len(set(made)) == 3
    listed = run(url, "list").output
    assert f"{made[0][:5]}-..." in listed
    assert made[0] not in listed
    assert run(url, "revoke", made[0][:5]).output == "1 codes ended.\n"
    left = json.loads(run(url, "list", "--json").output)["codes"]
    assert {one["label"] for one in left} == {made[1][:5], made[2][:5]}
    (one,) = json.loads(run(url, "create", "--for", "gpu7", "--json").output)
    assert one["for"] == "gpu7"
    store = open_store(url)
    found = codes.use(store, one["code"], one["expires_at"] - 1)
    assert found is not None
    assert round(found.expires_at - found.created_at) == 3600
    store.close()


def test_who_is_enrolled_is_listed_without_keys_and_ended(url):
    store = open_store(url)
    row = enrolled.add(store, kind="push", name="gpu7", address="10.0.0.7", now=1.0, secret="5ec7e7" * 10)
    store.close()
    for output in (run(url, "list").output, run(url, "list", "--json").output):
        assert "gpu7" in output
        assert "5ec7e7" not in output
    assert json.loads(run(url, "list", "--json").output)["enrolled"][0]["address"] == "10.0.0.7"
    assert json.loads(run(url, "revoke", row.id, "--json").output) == {"revoked": "gpu7", "codes": 0}
    with pytest.raises(UsageError, match="enroll list"):
        run(url, "revoke", "gpu7")


@pytest.mark.parametrize("words", [("--for", "a b"), ("--for", "x", "--count", "2"), ("--valid", "0s"), ("--valid", "9999d"), ("--valid", "soon")])
def test_what_cannot_be_is_said(url, words):
    with pytest.raises(UsageError):
        run(url, "create", *words)

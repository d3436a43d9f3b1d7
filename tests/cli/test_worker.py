"""``gpuwatch worker`` and ``gpuwatch check --env`` as a person types them; no token and no secret is ever printed."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from gpuwatch.cli import check, worker
from gpuwatch.model.errors import StoreError, UsageError
from gpuwatch.store import workers
from gpuwatch.store.database import open_store

NOW = 1_790_000_000.0


@pytest.fixture
def database(tmp_path):
    url = f"sqlite:///{tmp_path / 'gpuwatch.db'}"
    store = open_store(url)
    workers.add(store, "in", "in", "10.0.0.1", "approved", NOW, ())
    workers.add(store, "x" * 200 + "\x1b[2J", "x" * 60, "10.0.0.2", "waiting", NOW + 1, ())
    store.close()
    return url


def run(database, *words):
    return CliRunner().invoke(worker.command, ["--database", database, *words], catch_exceptions=False)


def test_the_list_has_those_who_wait_first_and_no_tokens(database):
    shown = run(database, "list").output
    head, first, second, next_step = shown.splitlines()
    assert head.split() == ["worker", "id", "state", "address", "host", "asked", "heard"]
    assert ("waiting for approval" in first, "…" in first, "10.0.0.2" in first, "never" in first) == (True, True, True, True)
    assert second.split()[:3] == ["in", "approved", "10.0.0.1"]
    assert next_step == f"Next: gpuwatch worker approve {'x' * 60}  (or forget)"
    assert "\x1b" not in shown
    store = open_store(database)
    secrets = [one.row.secret for one in workers.list_all(store)] + [workers.token_of(workers.key(store), one.row) for one in workers.list_all(store)]
    store.close()
    told = shown + run(database, "list", "--json").output
    assert [secret for secret in secrets if secret in told] == []


def test_approve_and_forget_as_json(database):
    done = json.loads(run(database, "approve", "x" * 60, "--json").output)
    assert (done["state"], done["address"], sorted(done)) == (
        "approved", "10.0.0.2", ["address", "created_at", "host", "id", "seen_at", "state", "worker_id"],
    )  # fmt: skip
    assert json.loads(run(database, "forget", done["id"], "--json").output)["host"] == "x" * 60
    assert [row["worker_id"] for row in json.loads(run(database, "list", "--json").output)] == ["in"]
    assert run(database, "forget", "in").output == "in at 10.0.0.1 is forgotten.\n"
    assert run(database, "list").output.splitlines()[1:] == []


def test_what_cannot_be_is_said(database, tmp_path):
    for words, error in ((("approve", "in"), "is let in already, from 10.0.0.1"), (("approve", "nobody"), "no worker 'nobody'"), (("forget", "nobody"), "worker list")):
        with pytest.raises(UsageError, match=error):
            run(database, *words)
    with pytest.raises(StoreError):
        run(f"sqlite:///{tmp_path / 'none.db'}", "list")


def test_an_env_file_becomes_toml(tmp_path):
    path = tmp_path / ".env"
    path.write_text("PORT=5151\nSECRET_KEY=hush\nTELEGRAM_CHAT_ID=7\n", encoding="utf-8")
    shown = CliRunner().invoke(check.command, ["--env", str(path)], catch_exceptions=False)
    assert (shown.exit_code, "port = 5151" in shown.output, "hush" in shown.output) == (0, True, False)
    told = json.loads(CliRunner().invoke(check.command, ["--env", str(path), "--json"], catch_exceptions=False).output)
    assert (told["system"], told["toml"]) == ("GPULocker (seed 003)", shown.output)
    assert {one["name"]: one["ours"] for one in told["settings"]} == {"PORT": "hub.port", "SECRET_KEY": "", "TELEGRAM_CHAT_ID": ""}
    with pytest.raises(UsageError, match="cannot be read"):
        CliRunner().invoke(check.command, ["--env", str(tmp_path / "none")], catch_exceptions=False)

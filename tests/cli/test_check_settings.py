"""``gpuwatch check`` finds before the start what a hub or node would refuse at it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from gpuwatch.cli.check import command
from gpuwatch.config.load import load
from gpuwatch.config.settings import HubSettings
from gpuwatch.hub.service import Hub
from gpuwatch.model.errors import UsageError
from gpuwatch.store import enrolled
from gpuwatch.store.database import open_store


def problems(folder: Path, text: str) -> list[tuple[str, str]]:
    (folder / "hosts.txt").write_text("localhost\n")
    config = folder / "gpuwatch.toml"
    config.write_text(text)
    config.chmod(0o600)
    done = CliRunner().invoke(command, ["--hosts", str(folder / "hosts.txt"), "--config", str(config), "--json"], catch_exceptions=False)
    found = [(one["id"], f"{one['message']} {one['hint']}") for one in json.loads(done.output)["problems"]]
    assert done.exit_code == bool(found)
    return found


@pytest.mark.parametrize(
    ("text", "id", "words"),
    [
        ('timezone = "Mars/X"\n', "settings.timezone", "'Mars/X' is not a time zone"),
        ('[hub]\ndatabase = "mysql://me:secret@x"\n', "settings.database", "cannot use"),
        ('[hub]\ndatabase = "sqlite:////no/such/folder/a.db"\n', "settings.database", "mkdir -p /no/such/folder"),
        ('[hub]\nbase_path = "no slash?"\n', "settings.base_path", "is not a path"),
        ('trusted_proxies = "proxy"\n', "settings.trusted_proxies", "'proxy' is no address"),
        ('[hub]\nline_url = "ftp://x"\n', "settings.line_url", "line_url is not an address"),
        ('tls_cert = "/no/such/cert.pem"\n', "tls.files", "gpuwatch cert"),
        ('[hub]\n[node]\npasswrod = "x"\n', "settings.node", "no setting 'passwrod'"),
        ("[node]\ninterval = 0.01\n", "settings.node", "0.01 is less than 0.1"),
    ],
)
def test_what_would_be_refused_is_found(tmp_path, text, id, words):
    ((found, said),) = problems(tmp_path, text)
    assert found == id
    assert words in said
    assert "secret" not in said


def test_numbers_of_one_are_said_as_people_do(tmp_path):
    (tmp_path / "hosts.txt").write_text("localhost\nbad line\n")
    done = CliRunner().invoke(command, ["--hosts", str(tmp_path / "hosts.txt")], catch_exceptions=False)
    assert done.output.startswith("1 target, 1 problem\n")


def test_good_settings_have_no_problem(tmp_path):
    text = f'timezone = "Europe/Berlin"\n[hub]\ndatabase = "sqlite:///{tmp_path}/a.db"\nbase_path = "/gpus"\nline_url = "http://127.0.0.1:1/write"\n[node]\ninterval = 2\n'
    assert problems(tmp_path, text) == []
    assert list(tmp_path.glob("a.db*")) == []


@pytest.mark.parametrize("text", ['timezone = "Mars/X"\n', '[hub]\ndatabase = "mysql://x"\n'])
def test_the_hub_does_refuse_it(tmp_path, text):
    (tmp_path / "g.toml").write_text(text)
    with pytest.raises(UsageError):
        Hub(load(HubSettings, "hub", {"config": str(tmp_path / "g.toml"), "state_dir": str(tmp_path)}, {})).start()


def test_a_hub_whose_nodes_push_is_not_without_hosts(tmp_path: Path) -> None:
    hosts, config, url = tmp_path / "hosts.txt", tmp_path / "gpuwatch.toml", f"sqlite:///{tmp_path}/hub.db"
    hosts.write_text("")
    config.write_text(f'[hub]\ndatabase = "{url}"\n')

    def found() -> list[str]:
        done = CliRunner().invoke(command, ["--hosts", str(hosts), "--config", str(config), "--json"], catch_exceptions=False)
        return [one["id"] for one in json.loads(done.output)["problems"]]

    assert found() == ["hosts.empty"]
    assert not (tmp_path / "hub.db").exists()
    store = open_store(url)
    assert found() == ["hosts.empty"]
    enrolled.add(store, kind="push", name="gpu7", address="10.0.0.7", now=1.0, secret="5ec7e7" * 10)
    assert found() == []
    store.close()

"""Ranks of the sources of settings, errors that name setting and value, secrets that stay secret."""

import os
import stat

import pytest

from gpuwatch.config import load as module
from gpuwatch.config.load import load, state_dir, timezone_name
from gpuwatch.config.settings import CompatSettings, HubSettings, NodeSettings
from gpuwatch.model.errors import GpuwatchError, UsageError


def write(path, text, mode=0o600):
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return str(path)


def test_flags_outrank_the_environment_which_outranks_the_file(tmp_path):
    config = write(tmp_path / "g.toml", 'log_level = "debug"\n[node]\nport = 1001\ninterval = "500ms"\nname = "file"\n')
    settings = load(NodeSettings, "node", {"config": config, "port": 3003, "name": None}, {"GPUWATCH_NODE_PORT": "2002", "GPUWATCH_NODE_NAME": "env"})
    assert (settings.port, settings.name, settings.interval, settings.log_level) == (3003, "env", 0.5, "debug")


def test_defaults_stand_without_any_source():
    assert load(HubSettings, "hub", {}, {}) == HubSettings()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"interval": "soon"}, "--interval: 'soon' is not a span"),
        ({"interval": "0.05"}, "--interval: 0.05 is less than 0.1"),
        ({"port": "65536"}, "--port: 65536 is more than 65535"),
        ({"port": "-1"}, "--port: -1 is less than 0"),
        ({"port": "http"}, "--port: 'http' is not a whole number"),
        ({"sample_deadline": True}, "is not a span"),
    ],
)
def test_a_bad_value_is_named(flags, words):
    with pytest.raises(UsageError, match=words):
        load(NodeSettings, "node", flags, {})


def test_a_database_too_small_for_a_day_is_refused():
    with pytest.raises(UsageError, match="GPUWATCH_HUB_MAX_DATABASE: 10MB is less than 1000000000"):
        load(HubSettings, "hub", {}, {"GPUWATCH_HUB_MAX_DATABASE": "10MB"})
    with pytest.raises(UsageError, match="GPUWATCH_HUB_NODE_PORT: 70000 is more than 65535"):
        load(HubSettings, "hub", {}, {"GPUWATCH_HUB_NODE_PORT": "70000"})


def test_environment_errors_name_the_variable():
    with pytest.raises(UsageError, match="GPUWATCH_HUB_PORT: 'x' is not a whole number"):
        load(HubSettings, "hub", {}, {"GPUWATCH_HUB_PORT": "x"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[node]\nprot = 1\n", "no setting 'prot'"),
        ("[nod]\nport = 1\n", r"there is no table \[nod\]. The tables are \[node\] and \[hub\]"),
        ("passwort = 'x'\n", "no setting 'passwort'"),
        ("node = 3\n", "node is not a table"),
        ("[node\n", "is not TOML"),
        ("[node]\nport = 1.5\n", "port in the settings file: 1.5 is not a whole number"),
    ],
)
def test_a_bad_file_is_named(tmp_path, text, words):
    with pytest.raises(UsageError, match=words):
        load(NodeSettings, "node", {"config": write(tmp_path / "g.toml", text)}, {})


def test_a_missing_file_is_named():
    with pytest.raises(UsageError, match="/nowhere/g.toml cannot be read: No such file"):
        load(NodeSettings, "node", {"config": "/nowhere/g.toml"}, {})


def test_the_password_comes_from_each_place(tmp_path):
    assert load(NodeSettings, "node", {}, {"GPUWATCH_PASSWORD": "e"}).password == "e"
    config = write(tmp_path / "g.toml", 'password = "t"\n')
    assert load(NodeSettings, "node", {"config": config}, {}).password == "t"
    file = write(tmp_path / "p", "f\nsecond line\n")
    assert load(NodeSettings, "node", {"config": config, "password_file": file}, {}).password == "f"


def test_a_password_that_others_can_read_is_refused(tmp_path):
    config = write(tmp_path / "g.toml", 'password = "hidden-word"\n', 0o644)
    with pytest.raises(UsageError, match="chmod 600") as error:
        load(NodeSettings, "node", {"config": config}, {})
    assert "hidden-word" not in str(error.value)
    file = write(tmp_path / "p", "hidden-word", 0o604)
    with pytest.raises(UsageError, match="chmod 600"):
        load(NodeSettings, "node", {"password_file": file}, {})


@pytest.mark.parametrize("section", ["", "[hub]\n"])
@pytest.mark.parametrize(
    "address", ["postgresql://gpuwatch:hidden-word@db:5432/lab", "postgresql://gpuwatch@db/lab?sslmode=require&password=hidden-word", "postgres://:hidden-word@db"]
)
def test_an_address_with_a_password_must_be_its_owners_too(tmp_path, section, address):
    if section == "":
        section = "[node]\nname = 'a'\n[hub]\n"
    text = f'{section}database = "{address}"\n'
    with pytest.raises(UsageError, match="chmod 600") as error:
        load(HubSettings, "hub", {"config": write(tmp_path / "g.toml", text, 0o644)}, {})
    assert "hidden-word" not in str(error.value)
    file = write(tmp_path / "p", "word")
    with pytest.raises(UsageError, match="chmod 600"):  # also where the password itself comes from a file
        load(HubSettings, "hub", {"config": write(tmp_path / "g.toml", text, 0o644), "password_file": file}, {})
    assert load(HubSettings, "hub", {"config": write(tmp_path / "g.toml", text)}, {}).database == address


@pytest.mark.parametrize("address", ["postgresql://gpuwatch@db:5432/lab", "sqlite:////var/lib/a@b:c", "postgresql://db/lab?password="])
def test_an_address_without_password_may_be_read_by_all(tmp_path, address):
    assert load(HubSettings, "hub", {"config": write(tmp_path / "g.toml", f'[hub]\ndatabase = "{address}"\n', 0o644)}, {}).database == address


def test_a_file_without_password_may_be_read_by_all(tmp_path):
    assert load(NodeSettings, "node", {"config": write(tmp_path / "g.toml", "[node]\nport = 1\n", 0o644)}, {}).port == 1


def test_a_secret_never_stands_in_an_error(tmp_path):
    config = write(tmp_path / "g.toml", "password = 12345678\n")
    with pytest.raises(UsageError) as error:
        load(NodeSettings, "node", {"config": config}, {})
    assert "12345678" not in str(error.value)


def test_an_empty_password_file_is_named(tmp_path):
    with pytest.raises(UsageError, match="is empty"):
        load(NodeSettings, "node", {"password_file": write(tmp_path / "p", "\n")}, {})


def test_the_state_folder(tmp_path):
    settings = NodeSettings()
    assert state_dir(settings, {"STATE_DIRECTORY": f"{tmp_path}/s:{tmp_path}/other"}) == tmp_path / "s"
    assert stat.S_IMODE(os.stat(tmp_path / "s").st_mode) == 0o700
    (tmp_path / "file").write_text("")
    with pytest.raises(GpuwatchError, match="--state-dir DIR"):
        state_dir(NodeSettings(state_dir=str(tmp_path / "file" / "below")), {})


def test_time_zones():
    assert timezone_name(NodeSettings(timezone="Europe/Berlin"), {}) == "Europe/Berlin"
    assert timezone_name(NodeSettings(), {"TZ": "Asia/Tokyo"}) == "Asia/Tokyo"
    assert timezone_name(NodeSettings(), {"TZ": "no/zone"}) == "UTC"
    with pytest.raises(UsageError, match="'Mars/Base' is not a time zone"):
        timezone_name(NodeSettings(timezone="Mars/Base"), {})
    with pytest.raises(UsageError, match="not a time zone"):
        timezone_name(NodeSettings(timezone="../etc/passwd"), {})


def test_color():
    assert module.color_wanted({}) is True
    assert module.color_wanted({"NO_COLOR": "1"}) is False


# ---- tables below a section


def test_what_foreign_writers_may_do_is_off_by_default():
    assert HubSettings().compat == CompatSettings(vesta_token="", workers="off")


def test_a_table_below_a_section_has_its_own_settings_and_names(tmp_path):
    config = write(tmp_path / "g.toml", '[hub]\nport = 7\n[hub.compat]\nvesta_token = "0000"\nworkers = "approve"\n')
    assert load(HubSettings, "hub", {"config": config}, {}).compat == CompatSettings("0000", "approve")
    environ = {"GPUWATCH_HUB_COMPAT_VESTA_TOKEN": "1111", "GPUWATCH_HUB_COMPAT_WORKERS": "open"}
    assert load(HubSettings, "hub", {"config": config}, environ).compat == CompatSettings("1111", "open")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[hub.compat]\nworkers = "all"\n', "hub.compat.workers in the settings file: 'all' is not one of off, approve, open"),
        ("[hub.compat]\nworkers = true\n", "hub.compat.workers in the settings file: True is not a text"),
        ('[hub.compat]\nvesta = "1"\n', r"no setting 'vesta' under \[hub.compat\]"),
        ("[hub]\ncompat = 1\n", "hub.compat is not a table"),
        ("[hub.compat]\nvesta_token = 1234\n", "hub.compat.vesta_token in the settings file: the value is not a text"),
    ],
)
def test_what_is_wrong_below_a_section_is_named(tmp_path, text, words):
    with pytest.raises(UsageError, match=words):
        load(HubSettings, "hub", {"config": write(tmp_path / "g.toml", text)}, {})


def test_a_file_with_a_token_must_be_its_owners(tmp_path):
    config = write(tmp_path / "g.toml", '[hub.compat]\nvesta_token = "0000"\n', 0o644)
    with pytest.raises(UsageError, match="chmod 600"):
        load(HubSettings, "hub", {"config": config}, {})

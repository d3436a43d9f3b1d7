"""A ``.env`` of an old system becomes settings that load; secrets are named, never shown."""

from __future__ import annotations

import json

import pytest

from gpuwatch.config.load import load
from gpuwatch.config.seed_env import SYSTEMS, parse_env, translate
from gpuwatch.config.settings import HubSettings, NodeSettings
from gpuwatch.model.errors import UsageError

GPULOCKER = """\
HOST=0.0.0.0
PORT=5151
GPU_CONFIG='{"4090": [1,2,3,4]}'
LOG_FILE=gpulocker.log
LOG_LEVEL=INFO
SECRET_KEY="very secret"
PRIVILEGED_USERS="admin1,admin2"
USER_LOCKOUT_HOURS=2
GPUs_STATUS_REFRESH_RATE_SECONDS=2   # a comment
MIN_GPU_UTILIZATION_PERCENT=1
MIN_GPU_MEMORY_GB=0.1
GPU_UTILIZATION_HISTORY_DAYS=7
REVOKE_IDLE_GPU_AFTER_HOURS=8
REDIS_HOST=localhost
PROXY_URL="http://username:hunter2@proxy.example.com:3128"
TELEGRAM_BOT_TOKEN="1234:abcd"
"""


def loaded(toml, tmp_path, table=HubSettings, section="hub"):
    path = tmp_path / "g.toml"
    path.write_text(toml, encoding="utf-8")
    path.chmod(0o600)
    return load(table, section, {"config": str(path)}, {})


def test_gpulockers_settings_become_ours(tmp_path):
    found = translate(parse_env(GPULOCKER))
    assert found.system == "GPULocker (seed 003)"
    settings = loaded(found.toml, tmp_path)
    assert (settings.host, settings.port, settings.log_file, settings.log_level, settings.interval) == ("0.0.0.0", 5151, "gpulocker.log", "info", 2.0)
    assert (settings.idle_utilization, settings.idle_memory, settings.raw_retention) == (1.0, 10**8, 7 * 86400.0)
    left = {line.name for line in found.lines if not line.value}
    assert left == {"GPU_CONFIG", "SECRET_KEY", "PRIVILEGED_USERS", "USER_LOCKOUT_HOURS", "REVOKE_IDLE_GPU_AFTER_HOURS", "REDIS_HOST", "PROXY_URL", "TELEGRAM_BOT_TOKEN"}
    assert all(f"# {name}: " in found.toml for name in left)


@pytest.mark.parametrize("secret", ["very secret", "hunter2", "1234:abcd"])
def test_no_secret_is_shown(secret):
    found = translate(parse_env(GPULOCKER))
    assert secret not in found.toml + json.dumps([line._asdict() for line in found.lines])
    assert "SECRET_KEY: accounts come later" in found.toml


def test_a_worker_of_seed_001(tmp_path):
    found = translate(parse_env("export MASTER_URL=http://10.0.0.1:5000\nWORKER_ID='gpu 1'\nUPDATE_INTERVAL=10\nSQLALCHEMY_DATABASE_URI=postgresql://u:pw9@h/d\n"))
    assert found.system == "gpu-monitoring-system (seed 001)"
    assert loaded(found.toml, tmp_path, NodeSettings, "node").name == "gpu 1"
    assert loaded(found.toml, tmp_path, NodeSettings, "node").interval == 10.0
    hub = loaded(found.toml, tmp_path)
    assert (hub.port, hub.compat.workers) == (5000, "approve")
    assert "pw9" not in found.toml


def test_accessgrid_keeps_its_port(tmp_path):
    found = translate(parse_env("ACCESSGRID_ADMIN_USER=admin\nACCESSGRID_ADMIN_PASS=admin-password-1\n"))
    assert (found.system, loaded(found.toml, tmp_path).port) == ("AccessGrid (seed 000)", 5000)
    assert "admin-password-1" not in found.toml


def test_values_that_cannot_be_and_names_that_nobody_knows_are_told(tmp_path):
    found = translate(parse_env('PORT=many\nMIN_GPU_UTILIZATION_PERCENT=900\nLOG_LEVEL=loud\nLOG_FILE="a\\"b\nEVIL="x\ny=1\nREDIS_DB=0\n'))
    told = {line.name: line.why for line in found.lines}
    assert "'many' is not understood" in told["PORT"]
    assert "'900'" in told["MIN_GPU_UTILIZATION_PERCENT"]
    assert "'loud'" in told["LOG_LEVEL"]
    assert "not known" in told["EVIL"]
    assert loaded(found.toml, tmp_path).port == 5151


def test_a_value_cannot_break_out_of_the_toml(tmp_path):
    found = translate({"HOST": 'a"\nport = 1\n[x]\n', "LOG_FILE": "\u2028\x07", "PORT\n[y]": "1", "REDIS_HOST": "h"})
    settings = loaded(found.toml, tmp_path)
    assert (settings.port, settings.host) == (5151, 'a"\nport = 1\n[x]\n')


def test_a_file_of_none_of_them_is_refused():
    for text in ("", "PATH=/bin\n", "# PORT=1\n", "nonsense"):
        with pytest.raises(UsageError, match="no setting of GPULocker, gpu-monitoring-system or AccessGrid"):
            translate(parse_env(text))


@pytest.mark.parametrize(
    ("line", "value"),
    [("A=1", "1"), ("A = 1 # c", "1"), ("A='1 # c'", "1 # c"), ('export A="x y"', "x y"), ("A=", ""), ("A=#c", ""), ("A=a#b", "a#b"), ('A="open', '"open')],
)
def test_lines_of_a_file(line, value):
    assert parse_env(line) == {"A": value}


def test_every_setting_that_is_named_exists():
    known = {f"hub.{name}" for name in HubSettings.__dataclass_fields__} | {f"node.{name}" for name in NodeSettings.__dataclass_fields__}
    known |= {"log_file", "log_level", "hub.compat.workers"}
    for system in SYSTEMS.values():
        assert {row[0] for row in system.rows.values() if row[0]} | set(system.added) <= known

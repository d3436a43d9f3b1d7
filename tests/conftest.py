"""What all tests share: which skips are allowed, a summary that names each, how hypothesis looks for examples, and signals as a terminal has them."""

import signal
import threading

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")
"""No example has a deadline (a busy machine stops a process for a second), and each run has the same ones; ``--hypothesis-profile=search`` looks for others."""

ALLOWED = ("no GPU hardware: ", "this kernel forbids: ")
"""A test may skip only for these reasons, each shown by a probe that names it. Any other skip fails the run."""

_skips = []

# whoever runs the tests under nohup, or in the background of a script, ignores these signals, and what a test starts would inherit it: a signal that is
# handled here, by doing nothing, has its usual meaning there
for _number in (signal.SIGINT, signal.SIGHUP):
    if threading.current_thread() is threading.main_thread() and signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)


def pytest_runtest_logreport(report):
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _skips.append((report.nodeid, reason.removeprefix("Skipped: ")))


def pytest_collectreport(report):
    if report.skipped:
        _skips.append((report.nodeid, str(report.longrepr)))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    if hasattr(session.config, "workerinput"):
        return
    if any(not reason.startswith(ALLOWED) for _, reason in _skips) and exitstatus == 0:
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter):
    wrong = [(where, reason) for where, reason in _skips if not reason.startswith(ALLOWED)]
    terminalreporter.write_line(f"skips: {len(_skips)} in all, {len(wrong)} not allowed")
    for where, reason in _skips:
        terminalreporter.write_line(f"  {where}: {reason}")


@pytest.fixture(scope="session")
def postgres():
    """A running PostgreSQL server for this process's tests (``tests/store/postgres.py``)."""
    from tests.store.postgres import Server

    server = Server()
    try:
        server.start()
        yield server
    finally:
        server.close()

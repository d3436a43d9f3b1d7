"""``gpuwatch check``: values of settings that a hub or node would refuse at its start, each asked of the part that refuses it. Opens nothing."""

from __future__ import annotations

import os
from typing import Callable, Iterator

from gpuwatch.config.checks import Problem
from gpuwatch.config.load import load, read_toml, timezone_name
from gpuwatch.config.settings import HubSettings, NodeSettings
from gpuwatch.model.errors import GpuwatchError


def problems(settings: HubSettings) -> Iterator[Problem]:
    """What is wrong with the hub's settings, and with the ``[node]`` of the same file."""
    checks: tuple[tuple[str, Callable[[HubSettings], object]], ...] = (
        ("settings.timezone", timezone_name), ("settings.database", _database), ("settings.base_path", _base_path),
        ("settings.trusted_proxies", _trusted_proxies), ("settings.line_url", _line_url), ("tls.files", _tls), ("settings.node", _node),
    )  # fmt: skip
    for id, check in checks:
        try:
            check(settings)
        except GpuwatchError as error:
            yield Problem(id, error.message, error.next_step)


def _database(settings: HubSettings) -> None:
    from gpuwatch.store.address import is_postgres, label_of

    if not settings.database:
        return
    path = label_of(settings.database)
    if is_postgres(settings.database):
        return
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise GpuwatchError(f"The folder of the database {path} is not there.", f"mkdir -p {folder}")
    if not os.access(path if os.path.exists(path) else folder, os.W_OK):
        raise GpuwatchError(f"The database {path} cannot be written by this user.", "Run the check as the hub's user, or give it the file.")


def _base_path(settings: HubSettings) -> None:
    from gpuwatch.web.base import checked

    checked(settings.base_path)


def _trusted_proxies(settings: HubSettings) -> None:
    from gpuwatch.serve.forwarded import networks

    networks(settings.trusted_proxies)


def _line_url(settings: HubSettings) -> None:
    from gpuwatch.hub.lines import checked_url

    if settings.line_url:
        checked_url(settings.line_url)


def _tls(settings: HubSettings) -> None:
    """The hub's own certificate."""
    from gpuwatch.serve.http import CertificateFiles

    files = CertificateFiles.of(settings.tls_cert, settings.tls_key)
    if files is not None:
        from gpuwatch.serve.tls import load as load_certificate

        load_certificate(files)


def _node(settings: HubSettings) -> None:
    if settings.config and "node" in read_toml(settings.config):
        load(NodeSettings, "node", {"config": settings.config})

"""The one table of the hub's routes: method, path, function, permission. A route without a permission does not start."""

from __future__ import annotations

from dataclasses import dataclass

from gpuwatch.web.moved import PAGES

PERMISSIONS = ("look", "open", "node", "foreign")
"""look: readings, for whoever the stranger setting lets in. open: nothing but files of the program, its health, and where things are.
node: a machine that shows its key or code. foreign: programs of other systems, as far as ``[hub.compat]`` takes them; each shows its own token."""


@dataclass(frozen=True)
class Route:
    """One row. ``path`` is bottle's; ``function`` a dotted path, imported when the hub starts."""

    method: str
    path: str
    function: str
    permission: str
    html: bool = False
    """A page for people: it has its twins at the same URL, ``term=true`` and ``format=json|csv``."""
    upload: bool = False
    """Takes files of up to ``upload_max_bytes``, few at once and few from one client; other bodies have the server's limit."""


ROUTES: tuple[Route, ...] = (
    Route("GET", "/", "gpuwatch.web.legacy:front", "look", html=True),
    Route("GET", "/hosts/<name>", "gpuwatch.web.views:host", "look", html=True),
    Route("GET", "/gpus/<uuid>", "gpuwatch.web.views:gpu", "look", html=True),
    Route("GET", "/history", "gpuwatch.web.history_views:history", "look", html=True),
    Route("GET", "/reports", "gpuwatch.web.history_views:reports", "look", html=True),
    Route("GET", "/import", "gpuwatch.web.imports:imports", "look", html=True),
    Route("POST", "/import", "gpuwatch.web.imports:dry_run", "look", upload=True),
    Route("GET", "/hubs", "gpuwatch.web.hubs:hubs", "look", html=True),
    Route("GET", "/live", "gpuwatch.web.views:live", "look"),
    Route("GET", "/api/v1/cluster", "gpuwatch.web.formats:cluster", "look"),
    Route("GET", "/api/v1/hosts/<name>", "gpuwatch.web.formats:host", "look"),
    Route("GET", "/api/v1/gpus/<uuid>", "gpuwatch.web.views:api_gpu", "look"),
    Route("GET", "/api/v1/series", "gpuwatch.web.api_views:series", "look"),
    Route("GET", "/api/v1/processes", "gpuwatch.web.api_views:processes", "look"),
    Route("GET", "/api/v1/usage", "gpuwatch.web.api_views:usage", "look"),
    Route("GET", "/api/v1/log.csv", "gpuwatch.web.logs:log", "look"),
    Route("GET", "/api/v1/hubs", "gpuwatch.web.hubs:api_hubs", "look"),
    Route("GET", "/api/v1/openapi.json", "gpuwatch.web.views:openapi", "open"),
    Route("POST", "/api/v1/push", "gpuwatch.web.push:push", "node"),
    Route("POST", "/api/v1/enroll", "gpuwatch.web.push:enroll", "node"),
    Route("GET", "/get-status", "gpuwatch.web.legacy:nodes", "look"),
    Route("GET", "/gpu_table", "gpuwatch.web.legacy:gpu_table", "look", html=True),
    Route("GET", "/states", "gpuwatch.web.legacy:to_slash", "open"),
    Route("GET", "/states/", "gpuwatch.web.legacy:states", "look"),
    Route("GET", "/states/<name>", "gpuwatch.web.legacy:to_slash", "open"),
    Route("GET", "/states/<name>/", "gpuwatch.web.legacy:host_states", "look"),
    Route("GET", "/api/gpu_stats", "gpuwatch.web.legacy_api:gpu_stats", "look"),
    Route("GET", "/api/cpu_live_info", "gpuwatch.web.legacy_api:cpu_live_info", "look"),
    Route("GET", "/api/user_gpu_usage", "gpuwatch.web.legacy_api:user_gpu_usage", "look"),
    Route("GET", "/api/all_gpu_status", "gpuwatch.web.legacy_api:all_gpu_status", "look"),
    Route("GET", "/api/historical_gpu_stats", "gpuwatch.web.legacy_api:historical_gpu_stats", "look"),
    Route("GET", "/api/historical_user_gpu_usage", "gpuwatch.web.legacy_api:historical_user_gpu_usage", "look"),
    Route("POST", "/api/analyze_csv", "gpuwatch.web.legacy_api:analyze_csv", "look", upload=True),
    Route("GET", "/api/gpu_status", "gpuwatch.web.legacy:gpu_status", "look"),
    Route("GET", "/register/", "gpuwatch.web.legacy_senders:register", "foreign"),
    Route("POST", "/update/host/<id>", "gpuwatch.web.legacy_senders:update", "foreign"),
    Route("GET", "/update/client/ws", "gpuwatch.web.legacy_senders:websocket", "open"),
    Route("POST", "/notification/send_notification/slack/", "gpuwatch.web.legacy_senders:notification", "foreign"),
    Route("POST", "/register", "gpuwatch.web.legacy_workers:register", "foreign"),
    Route("POST", "/metrics", "gpuwatch.web.legacy_workers:metrics", "foreign"),
    Route("GET", "/commands", "gpuwatch.web.legacy_workers:commands", "foreign"),
    Route("POST", "/command_output", "gpuwatch.web.legacy_workers:report", "foreign"),
    Route("GET", "/command_output/<id>", "gpuwatch.web.legacy_workers:command_output", "foreign"),
    Route("GET", "/worker/<worker>", "gpuwatch.web.legacy_workers:worker_page", "look"),
    Route("GET", "/api/metrics/history/<worker>/<gpu>", "gpuwatch.web.legacy_workers:history", "look"),
    Route("GET", "/api/gpu/get_power_limits", "gpuwatch.web.legacy_workers:power_limits", "look"),
    Route("POST", "/submit_command", "gpuwatch.web.moved:orders", "open"),
    Route("POST", "/submit_multi_command", "gpuwatch.web.moved:orders", "open"),
    Route("POST", "/stop_command/<id>", "gpuwatch.web.moved:orders", "open"),
    Route("POST", "/delete_worker/<id>", "gpuwatch.web.moved:orders", "open"),
    Route("POST", "/delete_workers", "gpuwatch.web.moved:orders", "open"),
    Route("POST", "/api/gpu/set_tdp", "gpuwatch.web.moved:api_orders", "open"),
    *(Route("GET", path, "gpuwatch.web.moved:page", "open") for path in PAGES),
    Route("GET", "/download_csv/<file>", "gpuwatch.web.moved:log_file", "open"),
    Route("GET", "/metrics", "gpuwatch.web.metrics:metrics", "look"),
    Route("GET", "/healthz", "gpuwatch.web.views:healthz", "open"),
    Route("GET", "/static/<name>", "gpuwatch.web.views:static", "open"),
    Route("GET", "/favicon.ico", "gpuwatch.web.views:favicon", "open"),
)

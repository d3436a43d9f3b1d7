"""``gpuwatch check --live`` of a target that is not gpuwatch: asked and read just as the hub does it."""

from __future__ import annotations

import time

from gpuwatch.config.load import read_secret
from gpuwatch.config.settings import DEFAULT_PASSWORD
from gpuwatch.hub.answers import broken, refused
from gpuwatch.hub.speakers import Speaker
from gpuwatch.model.cluster import Target
from gpuwatch.model.errors import WireError
from gpuwatch.model.foreign import program_of
from gpuwatch.wire.http import Trust, fetch


def told_by(target: Target, deadline_seconds: float, max_bytes: int) -> tuple[str, int]:
    """(what it told, in words; how many GPUs). Raises GpuwatchError with the hub's own sentence for what is wrong."""
    program = program_of(target.scheme)
    speaker = Speaker(target, 0.0)
    method, path, body, headers = speaker.asked(read_secret(target.password_file) if target.password_file else DEFAULT_PASSWORD)
    url, trust = f"{'https' if target.by_tls else 'http'}://{target.address}{path}", Trust(target.pin, target.ca_file)
    reply = fetch(url, method=method, body=body, headers=headers, deadline_seconds=deadline_seconds, max_bytes=max_bytes, program=program, trust=trust)
    if reply.status != 200:
        raise WireError(refused(target, reply).text)
    try:
        snapshot = speaker.read(reply.body, time.time()).snapshot
    except WireError as error:
        raise WireError(broken(target, error).text) from None
    gpus = snapshot.gpus if snapshot else ()
    return f"{program}, {len(gpus)} GPUs" if gpus else f"{program}, no GPUs", len(gpus)

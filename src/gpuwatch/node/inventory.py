"""The GPUs that this machine has had since it booted, so that one that is gone is shown as lost; and the options of a sampler as a line.

Only identity is kept: what a GPU is, never what it does. A file that cannot be read or written costs the memory, not the node.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

from gpuwatch.config.settings import SamplerOptions
from gpuwatch.model.errors import WireError
from gpuwatch.model.fields import describe
from gpuwatch.model.snapshot import GpuReading
from gpuwatch.wire import frame
from gpuwatch.wire.layout import layout_of, read_fact

log = logging.getLogger(__name__)

MOST_GPUS = 128
"""More are not remembered: the options of a sampler must fit into a pipe."""
IDENTITY = (*(name for name, kind, _, group in describe(GpuReading) if kind == "fact" and group == "identity"), "error_since_at")
"""What a GPU is, and since when it is lost if it is."""
_ANNOTATIONS = {name: annotation for name, annotation, _ in layout_of(GpuReading).facts}


def identity_of(gpu: GpuReading) -> Dict[str, Any]:
    """What a GPU is, as JSON-able data; what is not known is left out."""
    return {name: value for name in IDENTITY if (value := getattr(gpu, name)) is not None}


def gpu_of(facts: Any) -> GpuReading:
    """A GPU with nothing but its identity. Raises WireError for facts that are none."""
    if not isinstance(facts, Mapping) or not facts.get("uuid"):
        raise WireError("A GPU without a UUID cannot be remembered.")
    return GpuReading(**{name: read_fact("GpuReading", name, _ANNOTATIONS[name], facts[name]) for name in IDENTITY if name in facts})


class Inventory:
    """GPUs by UUID, kept in a file of this boot."""

    def __init__(self, path: Optional[Path], boot_id: str) -> None:
        """``path`` None: remembered until this process ends. ``boot_id`` empty: what the file says may be of an earlier boot, so is not read."""
        self._path = path
        self._boot_id = boot_id
        self._gpus: Dict[str, GpuReading] = {}
        for gpu in self._read() if path is not None and boot_id else []:
            self._gpus[gpu.uuid] = gpu

    @property
    def gpus(self) -> Tuple[GpuReading, ...]:
        """All GPUs seen, identity only, by index."""
        return tuple(sorted(self._gpus.values(), key=lambda gpu: gpu.index))

    def remember(self, gpus: Iterable[GpuReading]) -> None:
        """Take in GPUs that answer; of one that is lost only since when."""
        known = dict(self._gpus)
        for gpu in gpus:
            if gpu.error is None and gpu.uuid and (gpu.uuid in known or len(known) < MOST_GPUS):
                known[gpu.uuid] = GpuReading(**{**identity_of(gpu), "error_since_at": None})
            elif gpu.error is not None and gpu.uuid in known:
                known[gpu.uuid] = dataclasses.replace(known[gpu.uuid], error_since_at=gpu.error_since_at)
        if known != self._gpus:
            self._gpus = known
            self._write()

    def _read(self) -> List[GpuReading]:
        assert self._path is not None
        try:
            doc = frame.loads(self._path.read_bytes())
            if doc["boot_id"] != self._boot_id:
                return []
            return [gpu_of(facts) for facts in doc["gpus"][:MOST_GPUS]]
        except FileNotFoundError:
            return []
        except (OSError, WireError, TypeError, KeyError) as error:
            log.warning("%s is not readable (%s): GPUs that were lost before this start are not known.", self._path, error)
            return []

    def _write(self) -> None:
        if self._path is None:
            return
        doc = {"boot_id": self._boot_id, "gpus": [identity_of(gpu) for gpu in self._gpus.values()]}
        draft = self._path.with_suffix(f".{os.getpid()}.new")
        try:
            draft.write_text(json.dumps(doc, indent=1), encoding="utf-8")
            os.replace(draft, self._path)
        except OSError as error:
            log.warning("%s cannot be written (%s): GPUs that get lost are forgotten when the node restarts.", self._path, error.strerror)


def boot_id(root: str = "/") -> str:
    """The kernel's id of this boot; empty if it is not told."""
    try:
        return Path(root, "proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def write_options(options: SamplerOptions) -> bytes:
    """The line that a sampler reads first."""
    doc = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    doc["known_gpus"] = [identity_of(gpu) for gpu in options.known_gpus[:MOST_GPUS]]
    return json.dumps(doc, separators=(",", ":")).encode() + b"\n"


def read_options(line: bytes) -> SamplerOptions:
    """The options from the line. Raises WireError; a name that this version does not know is passed over."""
    doc = frame.loads(line)
    if not isinstance(doc, dict) or not isinstance(doc.get("known_gpus", []), list):
        raise WireError("The options of the sampler are not an object.")
    names = {field.name for field in dataclasses.fields(SamplerOptions)}
    known = tuple(gpu_of(facts) for facts in doc.pop("known_gpus", []))
    try:
        return SamplerOptions(**{name: value for name, value in doc.items() if name in names}, known_gpus=known)
    except TypeError as error:
        raise WireError(f"The options of the sampler are incomplete: {error}.") from None

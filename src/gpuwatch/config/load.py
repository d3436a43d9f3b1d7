"""Settings from flags, environment and TOML file, in this order of rank. The only reader of the environment. Never logs a secret."""

from __future__ import annotations

import dataclasses
import os
import re
import stat
import sys
from pathlib import Path
from typing import Any, Callable, Mapping, Optional, Type, TypeVar

from gpuwatch.config.settings import CommonSettings, parts_of, settings_of
from gpuwatch.model.errors import GpuwatchError, UsageError
from gpuwatch.model.units import parse_bytes, parse_seconds

T = TypeVar("T", bound=CommonSettings)

SECTIONS = ("node", "hub")
"""The tables of a settings file."""

_TRUE = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def load(table: Type[T], section: str, flags: Mapping[str, Any], environ: Optional[Mapping[str, str]] = None) -> T:
    """The settings of ``table`` (``section``: node or hub). ``flags``: what was given on the command line, None for what was not.

    Raises UsageError naming the setting, the value and where it came from.
    """
    environment = os.environ if environ is None else environ
    given = {name: value for name, value in flags.items() if value is not None}
    config = str(given.get("config") or environment.get("GPUWATCH_CONFIG") or "")
    file = read_toml(config) if config else {}
    found: dict[str, Any] = {}
    for field in settings_of(table):
        source, value = _find(field, section, given, environment, file)
        if source:
            found[field.name] = convert(field, value, source)
    _refuse_unknown(table, section, file, config)
    for name, part in parts_of(table).items():
        found[name] = _part(part, section, name, environment, file, config)
    settings = table(**{**found, "config": config})
    return dataclasses.replace(settings, password=_password(settings, config, file, section))


def _find(
    field: dataclasses.Field[Any], section: str, flags: Mapping[str, Any], environ: Mapping[str, str], file: Mapping[str, Any]
) -> tuple[str, Any]:
    """(where the value comes from, value); ("", None) where it is set nowhere."""
    if field.name in flags:
        return f"--{field.name.replace('_', '-')}", flags[field.name]
    common = field.name in _common()
    variable = f"GPUWATCH_{field.name.upper()}" if common else f"GPUWATCH_{section.upper()}_{field.name.upper()}"
    for name in (variable, field.metadata["environ"]):
        if name and environ.get(name):
            return name, environ[name]
    own = file.get(section)
    place = own if isinstance(own, dict) and field.name in own else file if common else {}
    if field.name in place:
        return f"{field.name} in the settings file", place[field.name]
    return "", None


def _part(table: type, section: str, name: str, environ: Mapping[str, str], file: Mapping[str, Any], config: str) -> Any:
    """The settings of ``[section.name]``. A file that holds a secret must not be readable by others."""
    own = file.get(section, {}).get(name, {})
    if not isinstance(own, dict):
        raise UsageError(f"{config}: {section}.{name} is not a table. Write [{section}.{name}] above its settings.")
    known = {field.name: field for field in settings_of(table)}
    unknown = [setting for setting in own if setting not in known]
    if unknown:
        raise UsageError(f"{config}: there is no setting {unknown[0]!r} under [{section}.{name}]. gpuwatch.toml.example lists them.")
    found: dict[str, Any] = {}
    for setting, field in known.items():
        variable = f"GPUWATCH_{section}_{name}_{setting}".upper()
        if environ.get(variable):
            found[setting] = convert(field, environ[variable], variable)
        elif setting in own:
            found[setting] = convert(field, own[setting], f"{section}.{name}.{setting} in the settings file")
            if field.metadata["kind"] == "secret" and found[setting]:
                _refuse_readable_by_others(config)
    return table(**found)


def _common() -> frozenset[str]:
    return frozenset(field.name for field in settings_of(CommonSettings))


def convert(field: dataclasses.Field[Any], value: Any, source: str) -> Any:
    """A value of the setting's kind. Raises UsageError with source and value (never a secret's value)."""
    kind = field.metadata["kind"]
    try:
        result = _CONVERTERS[kind](value)
    except (ValueError, TypeError, KeyError, UsageError):
        shown = "the value" if kind == "secret" else repr(value)[:60]
        raise UsageError(f"{source}: {shown} is not {_WANTED[kind]}.") from None
    choices = field.metadata["choices"]
    if choices and result not in choices:
        raise UsageError(f"{source}: {value!r} is not one of {', '.join(choices)}.")
    least = field.metadata["least"]
    if least is not None and result < least:
        raise UsageError(f"{source}: {value} is less than {least:.15g}.")
    most = field.metadata["most"]
    if most is not None and result > most:
        raise UsageError(f"{source}: {value} is more than {most:.15g}.")
    return result


def _plain_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _whole(value: Any) -> int:
    if isinstance(value, (bool, float)):
        raise ValueError
    return int(value)


def _boolean(value: Any) -> bool:
    return value if isinstance(value, bool) else _TRUE[str(value).lower()]


_CONVERTERS: Mapping[str, Callable[[Any], Any]] = {
    "text": _plain_text,
    "path": _plain_text,
    "secret": _plain_text,
    "int": _whole,
    "bool": _boolean,
    "float": lambda value: parse_seconds(str(value)) if not isinstance(value, bool) else _plain_text(value),
    "seconds": lambda value: parse_seconds(str(value)) if not isinstance(value, bool) else _plain_text(value),
    "bytes": lambda value: parse_bytes(str(value)) if not isinstance(value, bool) else _plain_text(value),
}
_WANTED = {
    "text": "a text", "path": "a path", "secret": "a text (in quotes)", "int": "a whole number", "bool": "true or false",
    "float": "a number", "seconds": "a span such as 0.5, 30s, 5min or 2h", "bytes": "a size such as 20GB",
}  # fmt: skip


def read_toml(path: str) -> dict[str, Any]:
    """The settings file. Raises UsageError with line and column of what is wrong."""
    if sys.version_info >= (3, 11):
        import tomllib as toml
    else:
        import tomli as toml
    try:
        return toml.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"The settings file {path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"The settings file {path} is not TOML: {error}.") from None


def _refuse_unknown(table: Type[T], section: str, file: Mapping[str, Any], config: str) -> None:
    """A misspelt setting must not be silently without effect."""
    known = {field.name for field in settings_of(table)}.union(parts_of(table))
    own = file.get(section, {})
    if not isinstance(own, dict):
        raise UsageError(f"{config}: {section} is not a table. Write [{section}] above its settings.")
    unknown = [name for name in own if name not in known] + [
        name for name, value in file.items() if not isinstance(value, dict) and name not in _common()
    ]
    tables = [name for name, value in file.items() if isinstance(value, dict) and name not in SECTIONS]
    if tables:
        raise UsageError(f"{config}: there is no table [{tables[0][:40]}]. The tables are {' and '.join(f'[{name}]' for name in SECTIONS)}.")
    if unknown:
        raise UsageError(f"{config}: there is no setting {unknown[0]!r} there. `gpuwatch {section} --help` and gpuwatch.toml.example list them.")


def _password(settings: CommonSettings, config: str, file: Mapping[str, Any], section: str) -> str:
    """The password from password_file if named, else as set. A settings file with a password must not be readable by others."""
    own = file.get(section)
    if _holds_url_password(file) or (not settings.password_file and ("password" in file or (isinstance(own, dict) and "password" in own))):
        _refuse_readable_by_others(config)
    return read_secret(settings.password_file) if settings.password_file else settings.password


_URL_PASSWORD = re.compile(r"\w[\w+.-]*://(?:[^/?#\s]*:[^/?#\s]+@|\S*[?&]password=[^&\s])")


def _holds_url_password(found: Any) -> bool:
    """Whether some value of a settings file is an address with a password, such as that of a database."""
    if isinstance(found, dict):
        return any(map(_holds_url_password, found.values()))
    return isinstance(found, str) and _URL_PASSWORD.match(found) is not None


def read_secret(path: str) -> str:
    """The first line of a file that only its owner (and group) may read. Raises UsageError with the line to run."""
    _refuse_readable_by_others(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UsageError(f"The password file {path} cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}.") from None
    lines = text.splitlines()
    if not lines or not lines[0].strip():
        raise UsageError(f"The password file {path} is empty. Write the password on its first line.")
    return lines[0].strip()


def _refuse_readable_by_others(path: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise UsageError(f"The password file {path} cannot be read: {error.strerror}.") from None
    if stat.S_IMODE(mode) & stat.S_IROTH:
        raise UsageError(f"{path} holds a password and everybody on this machine can read it. Run: chmod 600 {path}")


def state_dir(settings: CommonSettings, environ: Optional[Mapping[str, str]] = None) -> Path:
    """The folder for what must survive a restart; made if absent. Raises GpuwatchError with the next step."""
    environment = os.environ if environ is None else environ
    # systemd gives several folders separated by colons; the first is ours
    chosen = settings.state_dir or environment.get("STATE_DIRECTORY", "").split(":")[0]
    try:
        path = Path(chosen) if chosen else Path.home() / ".local" / "state" / "gpuwatch"
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise GpuwatchError(f"The state folder {chosen or '~/.local/state/gpuwatch'} cannot be used: {reason}.", "Name another: --state-dir DIR.") from None
    return path


def timezone_name(settings: CommonSettings, environ: Optional[Mapping[str, str]] = None) -> str:
    """Name of the zone of days and of times without one: the setting, else this machine's, else UTC. Raises UsageError."""
    from zoneinfo import ZoneInfo

    environment = os.environ if environ is None else environ
    name = settings.timezone or environment.get("TZ", "").lstrip(":") or _machine_zone()
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        if settings.timezone:
            raise UsageError(f"timezone: {name!r} is not a time zone. Write a name such as Europe/Berlin or UTC.") from None
        return "UTC"
    return name


def _machine_zone() -> str:
    try:
        target = os.path.realpath("/etc/localtime")
    except OSError:
        return "UTC"
    _, found, name = target.partition("/zoneinfo/")
    return name if found else "UTC"


def color_wanted(environ: Optional[Mapping[str, str]] = None) -> bool:
    """False where the person set NO_COLOR (no-color.org) or the terminal is dumb."""
    environment = os.environ if environ is None else environ
    return not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"

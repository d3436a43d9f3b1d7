"""The hosts file: lines of ``[name=]address [key=value ...]`` to Targets. Pure; a bad line costs only itself.

``address`` is ``host``, ``host:port``, ``http://host:port``, ``ssh://user@host:port``, an IPv6 address in brackets, or a range ``gpu[01-16]``.
Other schemes name programs that are not gpuwatch (``model.foreign``), each with a port of its own.
Keys: ``tags=lab-a,train``, ``password_file=/path``, ``every=10s``; of ``https://`` also ``pin=sha256:...`` and ``ca=/path.pem``. ``#`` starts a comment.
Exporters behind basic auth: ``node+https://user@host password_file=/path``.
"""

from __future__ import annotations

import ipaddress
import itertools
import math
import re
from dataclasses import dataclass, replace
from typing import Any, Iterator, Optional, Sequence, Tuple

from gpuwatch.model.cluster import SSH, Target
from gpuwatch.model.errors import UsageError
from gpuwatch.model.foreign import FOREIGN, Foreign
from gpuwatch.model.imports import IMPORTED
from gpuwatch.model.units import parse_seconds

MAX_TARGETS = 20000
MAX_RANGE = 10000
SCHEMES = ("http", "https", *SSH, *FOREIGN)
KEYS = ("tags", "password_file", "every", "pin", "ca")
_NAME = re.compile(r"[^\s=#/?&<>\"'\\\x00-\x1f\x7f-\x9f]{1,200}")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?\.?")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}")
_RANGE = re.compile(r"\[(\d{1,9})-(\d{1,9})\]")


@dataclass(frozen=True)
class BadLine:
    """A line that was left out, and why."""

    line: int
    text: str
    message: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.message} ({self.text[:60]!r})"


def parse_hosts(text: str, *, port: int = 7080) -> tuple[tuple[Target, ...], tuple[BadLine, ...]]:
    """Targets in the order of the file, and the lines that were left out. ``port``: for addresses without one."""
    targets: dict[str, Target] = {}
    bad: list[BadLine] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = re.sub(r"(^|\s)#.*", "", raw).strip().lstrip("\ufeff")
        if not line:
            continue
        try:
            for target in _parse_line(line, number, port):
                _add(targets, target)
        except UsageError as error:
            bad.append(BadLine(number, _hidden(raw.strip()), _hidden(str(error))))
    return tuple(targets.values()), tuple(bad)


def is_name(text: str) -> bool:
    """It can be the name of a target: no spaces, quotes, slashes, nothing invisible; at most 200 characters; not that of an import."""
    return bool(_NAME.fullmatch(text)) and text.isprintable() and not text.startswith(IMPORTED)


def not_a_name(text: str) -> UsageError:
    """Why it cannot be the name of a target."""
    return UsageError(f"{text[:40]!r} cannot be a name: no spaces, quotes, slashes, '=', '?', '&' or '#', nothing invisible, at most 200 characters, no {IMPORTED} before it.")


def _hidden(text: str) -> str:
    """Without passwords and their files: strangers read on a page what is wrong with a line."""
    without = re.sub(r"(\w*pass\w*=)[^\s'\"]+", r"\1***", text, flags=re.IGNORECASE)
    return re.sub(r"([^\s/@:=]*:)(?!//)[^\s]*@", r"\1***@", without)


def _add(targets: dict[str, Target], target: Target) -> None:
    if target.name in targets:
        first = targets[target.name].line
        raise UsageError(f"the name {target.name} stands on line {first} already. Give this one another name: NAME=ADDRESS.")
    if len(targets) >= MAX_TARGETS:
        raise UsageError(f"more than {MAX_TARGETS} targets.")
    targets[target.name] = target


def _parse_line(line: str, number: int, port: int) -> Iterator[Target]:
    words = line.split()
    name, address = _split_name(words[0])
    options = _options(words[1:])
    for one_name, one_address in _expand(name, address):
        target = _target(one_name, one_address, port)
        yield _allowed(replace(target, line=number, **options))


def _allowed(target: Target) -> Target:
    foreign = FOREIGN.get(target.scheme)
    if foreign is not None and target.password_file and not foreign.takes_password:
        _check_password(foreign, target)
    if foreign is not None and target.user and not target.password_file:
        raise UsageError(f"the password of {target.user} is missing: put it into a file, and name that as password_file.")
    if (target.pin or target.ca_file) and not target.by_tls:
        raise UsageError("pin= and ca= are for https:// addresses.")
    return target


def _check_password(foreign: Foreign, target: Target) -> None:
    """A password in the clear is for programs that know no other way; exporters have TLS. Raises UsageError."""
    by_tls = target.scheme.replace("+http", "+https")
    if not foreign.takes_user:
        other = f", or write {by_tls}://USER@{target.address}" if by_tls in FOREIGN else ""
        raise UsageError(f"{foreign.program} is asked without a password{' where there is no TLS' if other else ''}: leave the password_file out{other}.")
    if not target.user:
        raise UsageError(f"the user that goes with the password_file belongs before the address: {target.scheme}://USER@{target.address}.")


def _split_name(word: str) -> tuple[str, str]:
    name, separator, address = word.partition("=")
    if not separator:
        return "", word
    if not name or not address:
        raise UsageError("a name and an address belong around '='.")
    return name, address


def _options(words: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    keys = [word.partition("=")[0] for word in words]
    for word in words:
        key, separator, value = word.partition("=")
        if not separator or key not in KEYS or not (value or key == "tags"):
            raise UsageError(f"{word[:40]!r} is none of {', '.join(KEYS)} with = and a value")
        if keys.count(key) > 1:
            raise UsageError(f"{key}= stands twice{': write all tags behind one, with commas' if key == 'tags' else ''}.")
        if key == "tags":
            found["tags"] = tuple(dict.fromkeys(tag for tag in value.split(",") if _checked(tag)))
        elif key == "every":
            found["interval_seconds"] = _interval(value)
        elif key == "pin":
            found["pin"] = checked_pin(value)
        elif key == "ca":
            found["ca_file"] = value
        else:
            found["password_file"] = value
    return found


def _checked(tag: str) -> str:
    if tag and not is_name(tag):
        raise UsageError(f"{tag[:40]!r} is not a tag.")
    return tag


def checked_pin(text: str, where: str = "pin=") -> str:
    """``sha256:`` and 64 hex digits; as `openssl x509 -fingerprint -sha256` writes it is fine too: capitals, with colons. Raises UsageError."""
    algorithm, _, digits = text.partition(":")
    digits = digits.replace(":", "").lower()
    if algorithm.lower() != "sha256" or not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise UsageError(f"{where} is not sha256: and 64 hex digits; `gpuwatch cert --show` there prints it.")
    return f"sha256:{digits}"


def _interval(text: str) -> float:
    seconds = parse_seconds(text)
    if seconds < 0.1:
        raise UsageError(f"every={text} is shorter than 0.1 s.")
    return seconds


def _expand(name: str, address: str) -> Iterator[Tuple[str, str]]:
    """Ranges in the address; ranges in the name run beside them."""
    spans = [_span(match) for match in _RANGE.finditer(address)]
    if not spans:
        yield name, address
        return
    names = [_span(match) for match in _RANGE.finditer(name)]
    if name and [len(span) for span in names] != [len(span) for span in spans]:
        raise UsageError("the name needs ranges as long as those of the address.")
    total = math.prod(len(span) for span in spans)
    if total > MAX_RANGE:
        raise UsageError(f"the range has {total} addresses, at most {MAX_RANGE} are allowed.")
    for numbers, name_numbers in zip(itertools.product(*spans), itertools.product(*names) if name else itertools.repeat(())):
        yield _fill(name, name_numbers), _fill(address, numbers)


def _span(match: re.Match[str]) -> list[str]:
    first, last = match.group(1), match.group(2)
    if int(last) < int(first) or int(last) - int(first) >= MAX_RANGE:
        raise UsageError(f"the range {match.group(0)} is empty, or longer than {MAX_RANGE}.")
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]


def _fill(text: str, numbers: Sequence[str]) -> str:
    remaining = iter(numbers)
    return _RANGE.sub(lambda _: next(remaining), text)


def _target(name: str, address: str, port: int) -> Target:
    scheme, separator, rest = address.partition("://")
    if not separator:
        scheme, rest = "http", address
    if scheme not in SCHEMES:
        raise UsageError(f"{scheme[:20]}:// is not known; this version asks by {', '.join(SCHEMES)}.")
    user, rest = _user(scheme, rest.rstrip("/"))
    host, own_port = _host_and_port(rest)
    usual = FOREIGN[scheme].port if scheme in FOREIGN else port
    chosen = name or (host if own_port is None else rest)
    if not is_name(chosen):  # invisible and bidi characters: pages leave them out, so no link would lead there
        raise not_a_name(chosen)
    return Target(chosen, host, own_port or (0 if scheme in SSH else usual), scheme, user=user)


def _user(scheme: str, rest: str) -> tuple[Optional[str], str]:
    """The user before the last ``@`` of an ssh address, or of an exporter's; they are words of ssh's command line, so none begins with a dash."""
    user, separator, host = rest.rpartition("@")
    by_password = scheme in FOREIGN and FOREIGN[scheme].takes_user
    if not separator:
        return None, rest
    if not (scheme in SSH or by_password):
        raise UsageError(f"an address with {scheme}:// holds no user or password: leave out what stands before the @.")
    if not _USER.fullmatch(user):
        instead = "it stands in the file that password_file= names" if by_password else "ssh logs in with a key"
        raise UsageError(f"what stands before the @ is not a user's name; a password does not belong there, {instead}.")
    return user, host


def _host_and_port(text: str) -> tuple[str, Optional[int]]:
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(\d{1,5}))?", text)
    if bracketed:
        return _ipv6(bracketed.group(1)), _port(bracketed.group(2))
    if text.count(":") > 1:
        raise UsageError(f"write the IPv6 address in brackets: [{text[:60]}].")
    host, separator, port = text.partition(":")
    if not _HOST.fullmatch(host):
        raise UsageError(f"{host[:60]!r} is not a host name or address.")
    return host, _port(port if separator else None)


def _ipv6(text: str) -> str:
    try:
        ipaddress.IPv6Address(text.partition("%")[0])
    except ValueError:
        raise UsageError(f"[{text[:60]}] is not an IPv6 address.") from None
    return text


def _port(text: Optional[str]) -> Optional[int]:
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,5}", text, re.ASCII) or not 0 < int(text) < 65536:
        raise UsageError(f"{text[:20]!r} is not a port (1 to 65535).")
    return int(text)

"""What went wrong with a poll, as a sentence with its next step, and how long to wait before asking again. Pure; never shows a secret."""

from __future__ import annotations

import re
from typing import NamedTuple, Optional

from gpuwatch.model.cluster import Target
from gpuwatch.model.foreign import FOREIGN, program_of
from gpuwatch.wire.asking import SKEW_HEADER
from gpuwatch.wire.http import Response

LONGEST_WAIT_SECONDS = 60.0
LONGEST_RETRY_AFTER_SECONDS = 120.0
WRONG_PASSWORD_WAIT_SECONDS = 7.0
"""A node refuses whoever gives ten wrong passwords in a minute: stay below that. A changed password is tried at once."""


class Failure(NamedTuple):
    """Why a poll brought no reading."""

    text: str
    answers: bool
    """Something answered, but not with readings."""
    costly: bool
    """More than a TCP connect was spent on it: asking again and again is backed off."""
    wait_seconds: float = 0.0
    """Do not ask again before."""


def refused(target: Target, response: Response) -> Failure:
    """The Failure for an answer that is not 200."""
    status = response.status
    if target.scheme in FOREIGN:
        return _foreign(target, response)
    skew_seconds = _skew_seconds(response)
    if status == 403 and skew_seconds is not None:
        side = "ahead of" if skew_seconds > 0 else "behind"
        return Failure(
            f"{target.name} takes no requests of this hub: its clock is {abs(skew_seconds):.0f} s {side} the hub's. "
            f"Next: set both clocks (timedatectl, or chronyc tracking, on each).",
            True,
            False,
        )
    if status in (401, 403):
        return Failure(
            f"wrong password: {target.name} answered {status}. Next: give the hub this node's password "
            f"(password_file= on its line of the hosts file, or the hub's own password).",
            True,
            True,
            WRONG_PASSWORD_WAIT_SECONDS,
        )
    if status == 503:
        return Failure(f"{target.name} has no reading yet: {_said(response) or '503'}. Next: wait for its first sample.", True, False)
    if status == 429:
        wait = _retry_after(response)
        return Failure(
            f"{target.name} refuses this hub for {wait:.0f} s after too many wrong passwords (429). Next: correct the password.", True, True, wait
        )
    return Failure(_other(target, response), True, True)


def _foreign(target: Target, response: Response) -> Failure:
    """node_info.py answers 404 to a wrong password; exporters take one by https alone."""
    status, foreign = response.status, FOREIGN[target.scheme]
    if foreign.takes_password and status == 404:
        text = (
            f"wrong password: {target.name} answered 404, as {foreign.program} does then. "
            f"Next: write its password (the constant in {foreign.program}) into a file, and password_file= on its line of the hosts file."
        )
        return Failure(text, True, True)
    if status in (401, 403):
        return Failure(f"{target.name} answered {status}: {_password_trouble(target)}", True, True)
    return Failure(_other(target, response), True, True)


def _password_trouble(target: Target) -> str:
    program, takes_user = FOREIGN[target.scheme].program, FOREIGN[target.scheme].takes_user
    if takes_user and target.user:
        return "it does not take this user and password. Next: correct the file that password_file= names, or the user before the @."
    sends_none = f"it wants a password, and the hub sends none to {program}"
    if takes_user:
        return f"{sends_none} on this line. Next: write USER@ before its address, and password_file= behind it."
    by_tls = target.scheme.replace("+http", "+https")
    return f"{sends_none}{' without TLS' if by_tls in FOREIGN else ''}. Next: open it to the hub{f', or ask it by {by_tls}://' if by_tls in FOREIGN else ''}."


def _other(target: Target, response: Response) -> str:
    status = response.status
    if 300 <= status < 400:
        where = clean(response.headers.get("location", ""), 80) or "elsewhere"
        return f"{target.name} answered {status}, a redirect to {where}; redirects are not followed. Next: write the node's own address."
    said = _said(response)
    return (
        f"{target.name} answered {status}{f' ({said})' if said else ''} instead of readings. "
        f"Next: is it {program_of(target.scheme)} that listens on {target.address}?"
    )


def broken(target: Target, error: Exception) -> Failure:
    """The Failure for an answer that could not be read."""
    said = clean(str(error), 300)
    if "next:" not in said.lower():
        said += f" Next: is it {program_of(target.scheme)} that listens on {target.address}?"
    return Failure(f"{target.name}: {said}", True, True)


def timed_out(target: Target, seconds: float, connected: bool) -> Failure:
    """The Failure for a poll that took too long; ``connected``: something took the connection."""
    if connected:
        return Failure(
            f"{target.name}: no whole answer from {target.address} within {seconds:g} s. Next: look at the node's load and log.", False, True
        )
    return Failure(
        f"{target.name}: no answer from {target.address} within {seconds:g} s. Next: is the machine on, and the port open?", False, False
    )


def unreachable(error: Exception) -> Failure:
    """The Failure for a connection that could not be made; ``error`` holds the sentence."""
    return Failure(clean(str(error), 300), False, False)


def clean(text: str, most: int) -> str:
    """Text from a stranger on one line, of printable characters: no control or bidi characters, no lone surrogates (SQLite takes none)."""
    return " ".join("".join(one if one.isprintable() else " " for one in text[: 4 * most]).split())[:most]


def _said(response: Response) -> str:
    kind = response.headers.get("content-type", "text/plain")
    return clean(response.body[:400].decode("utf-8", "replace"), 100).rstrip(".") if kind.startswith("text/plain") else ""


def _skew_seconds(response: Response) -> Optional[float]:
    """By how much the node's clock is ahead, where it says that this is why it refuses."""
    text = response.headers.get(SKEW_HEADER.lower(), "")
    return float(text) if re.fullmatch(r"-?[0-9]{1,12}", text, re.ASCII) else None


def _retry_after(response: Response) -> float:
    text: Optional[str] = response.headers.get("retry-after")
    seconds = float(text) if text and text.isascii() and text.isdigit() and len(text) < 9 else LONGEST_WAIT_SECONDS
    return min(max(seconds, 1.0), LONGEST_RETRY_AFTER_SECONDS)

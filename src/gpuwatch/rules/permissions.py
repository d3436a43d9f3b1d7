"""What strangers may see of a process: the name of its program, never its arguments. Pure; errs on the side of showing less.

A command line is text joined by spaces, so an argument cannot always be told from a path with a space in it. Where the script cannot be
found for sure, the kernel's short name of the process is shown.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Callable, List, Mapping, NamedTuple, Optional, Sequence, Tuple, TypeVar

from gpuwatch.model.snapshot import GpuReading, ProcessReading, Snapshot

Reading = TypeVar("Reading", Snapshot, GpuReading, ProcessReading)
STRANGER = "stranger"
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_SCRIPT = re.compile(r"[^=:@?\s]+\.(py|sh)")
_ANY_SCRIPT = re.compile(r"[^=:@?\s]+\.(py|sh|bash|zsh|pl|rb|R|r|jl|js|mjs|cjs)")
_DEPTH = 4


class _Options(NamedTuple):
    """How an interpreter reads its own options."""

    with_value: Tuple[str, ...] = ()
    """Options whose value is the next word."""
    code: str = ""
    """Letters of short options after which comes code, not a file."""
    code_words: Tuple[str, ...] = ()
    """Long options after which comes code."""


_PYTHON = _Options(("-W", "-X", "--check-hash-based-pycs"), "c")
_SHELL = _Options(("-o", "+o", "-O", "+O", "--rcfile", "--init-file"), "cs")
_PERL = _Options(("-I",), "eE")
_RUBY = _Options(("-I", "-r", "-C"), "e")
_RSCRIPT = _Options((), "e")
_JULIA = _Options(("-p", "-t", "-L", "-J", "-C", "-H"), "eEm", ("--eval", "--print", "--module"))
_NODE = _Options(("-r", "--require", "--import", "--loader", "-C"), "ep", ("--eval", "--print"))

_INTERPRETERS: Mapping[str, _Options] = {
    "python": _PYTHON, "pypy": _PYTHON, "ipython": _PYTHON, "bash": _SHELL, "sh": _SHELL, "dash": _SHELL, "zsh": _SHELL, "ksh": _SHELL,
    "perl": _PERL, "ruby": _RUBY, "Rscript": _RSCRIPT, "julia": _JULIA, "node": _NODE, "nodejs": _NODE,
}  # fmt: skip
_JAVA_VALUES = (
    "-cp", "-classpath", "--class-path", "-p", "--module-path", "--add-modules", "--add-opens", "--add-exports",
)  # fmt: skip
_LAUNCHERS = ("torchrun", "accelerate", "deepspeed", "horovodrun")
_VERSIONED = re.compile(r"(python|pypy|perl|ruby|julia|ipython)[0-9.]*(t|d)?")


def visible_command(process: ProcessReading, audience: str, show_arguments: bool = False) -> str:
    """What ``audience`` may see of the command line: all of it, or for strangers the script's file name, else comm. "" = not known."""
    if not process.command:
        return process.name or ""
    if show_arguments or audience != STRANGER:
        return process.command
    return _seen_by_strangers(process.command, process.name or "")


@lru_cache(maxsize=8192)
def _seen_by_strangers(command: str, name: str) -> str:
    words = command.split()
    return (_script(words, 0) if words else None) or name or _base(words[0] if words else "")


def _base(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _script(words: Sequence[str], depth: int) -> Optional[str]:
    """The file name of the script that ``words`` run, or None when there is none for sure."""
    program = _base(words[0]).lstrip("-")
    find = _finder(program)
    rest = find(list(words[1:])) if find else None
    if not rest:
        return None
    # A script may itself be a launcher: ``python /usr/bin/torchrun train.py``.
    inner = _script(rest, depth + 1) if depth < _DEPTH and _finder(_base(rest[0])) else None
    return inner or _base(rest[0]) or None


def _finder(program: str) -> Optional[Callable[[List[str]], Optional[List[str]]]]:
    if program == "java":
        return _after_java
    if program in _LAUNCHERS:
        return _after_launcher
    versioned = _VERSIONED.fullmatch(program)
    options = _INTERPRETERS.get(versioned.group(1) if versioned else program)
    return (lambda words: _after_options(words, options)) if options else None


def _after_options(words: List[str], options: _Options) -> Optional[List[str]]:
    """The words from the script on; a Python module counts as a script. None: code on the command line, or standard input."""
    maybe_value = False
    while words:
        word = words[0]
        if options is _PYTHON and word.startswith("-m"):
            return _module(words[1:] if word == "-m" else [word[2:], *words[1:]])
        if word == "--":
            return words[1:] or None
        if not word.startswith(("-", "+")):
            return words if not maybe_value or _ANY_SCRIPT.fullmatch(word) else None
        if word == "-" or _is_code(word, options):
            return None
        if options is _PYTHON and word.endswith("m") and not word.startswith("--") and word[1:].isalpha():
            return _module(words[1:])
        maybe_value = word.startswith("--") and "=" not in word and word not in options.with_value
        words = words[2:] if word in options.with_value else words[1:]
    return None


def _is_code(word: str, options: _Options) -> bool:
    if word.startswith("--"):
        return word.partition("=")[0] in options.code_words
    if word[:2] in options.with_value:
        return False
    return any(letter in options.code for letter in word[1:])


def _module(words: List[str]) -> Optional[List[str]]:
    return words if words and _MODULE.fullmatch(words[0]) else None


def _after_java(words: List[str]) -> Optional[List[str]]:
    while words:
        word = words[0]
        if word == "-jar":
            return words[1:2] or None
        if word.partition("=")[0] in ("-m", "--module"):  # what follows the module are its own arguments
            module = word.partition("=")[2] or "".join(words[1:2])
            return _module([module.partition("/")[2] or module])
        if not word.startswith("-"):
            return words[:1] if _MODULE.fullmatch(word) else None
        words = words[2:] if word in _JAVA_VALUES else words[1:]
    return None


def _after_launcher(words: List[str]) -> Optional[List[str]]:
    """Launchers have many options of their own: the first word that is a script's name, or the module after ``-m``."""
    for place, word in enumerate(words):
        if word in ("-m", "--module"):
            return _module(words[place + 1 : place + 2])
        if not word.startswith("-") and _SCRIPT.fullmatch(word):
            return [word]
    return None

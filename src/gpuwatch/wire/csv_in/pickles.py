"""A pickle from a stranger, read without running anything of it: numbers, texts, lists, tuples, dicts, and no class at all. Pure.

Python's own unpickler, told to admit no class, still allocates gigabytes for a few bytes that name a large memo. This one reads the
opcodes of ``pickletools`` that plain data needs, refuses every other, and never holds more than the pickle itself has.
"""

from __future__ import annotations

import struct
from typing import Any, Callable, Dict, List, Mapping

from gpuwatch.wire.csv_in.rows import Unreadable

MAX_BYTES = 1024**2
"""A pickle of a host with hundreds of processes has 100 KB. Unpacked, a hostile one takes at most about 100 times its size."""
_MOST_DIGITS = 40
_PLAIN_KEYS = (str, int, float, bytes, bool, type(None))
"""Nested tuples as keys could be deep enough to exhaust the stack when they are hashed."""


def loads(data: bytes) -> Any:
    """The value of a pickle of any protocol. Raises Unreadable for anything but plain data, and for what is broken."""
    if len(data) > MAX_BYTES:
        raise Unreadable(f"holds a pickle of more than {MAX_BYTES} bytes")
    reader = _Reader(data)
    try:
        return reader.run()
    except (IndexError, KeyError, ValueError, TypeError, AttributeError, struct.error, OverflowError) as error:
        raise Unreadable(f"holds a broken pickle ({type(error).__name__} at byte {reader.at})") from None


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        self.stack: List[Any] = []
        self.marks: List[int] = []
        self.memo: Dict[int, Any] = {}

    def run(self) -> Any:
        data, end = self.data, len(self.data)
        while self.at < end:
            code = data[self.at]
            self.at += 1
            if code == _STOP:
                return self.stack.pop()
            step = _STEPS.get(code)
            if step is None:
                raise Unreadable(f"holds a pickle with more than plain data (opcode 0x{code:02x}): not read")
            step(self)
        raise ValueError("no end")

    def take(self, count: int) -> bytes:
        found = self.data[self.at : self.at + count]
        if len(found) != count:
            raise ValueError("too short")
        self.at += count
        return found

    def whole(self, format: str, size: int) -> int:
        found: int = struct.unpack(format, self.take(size))[0]
        if found < 0:
            raise ValueError("negative length")
        return found

    def line(self) -> str:
        end = self.data.index(b"\n", self.at)
        found = self.data[self.at : end].decode("ascii")
        self.at = end + 1
        return found

    def digits(self) -> str:
        found = self.line()
        if len(found) > _MOST_DIGITS:
            raise ValueError("too many digits")
        return found

    def since_mark(self) -> List[Any]:
        start = self.marks.pop()
        found = self.stack[start:]
        del self.stack[start:]
        return found

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def top(self, count: int) -> None:
        found = tuple(self.stack[-count:])
        if len(found) != count:
            raise IndexError
        self.stack[-count:] = [found]

    def fill(self, pairs: List[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(pairs) % 2:
            raise TypeError
        for key, value in zip(pairs[::2], pairs[1::2]):
            if type(key) not in _PLAIN_KEYS:
                raise TypeError
            target[key] = value

    def extend(self, values: List[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise TypeError
        self.stack[-1].extend(values)

    def pop_pair(self) -> List[Any]:
        found = self.stack[-2:]
        del self.stack[-2:]
        return found

    def dict_since_mark(self) -> None:
        pairs = self.since_mark()
        self.push({})
        self.fill(pairs)

    def mark(self) -> None:
        self.marks.append(len(self.stack))

    def frame(self) -> None:
        self.take(8)

    def protocol(self) -> None:
        if self.take(1)[0] > 5:
            raise ValueError("newer protocol")

    def old_int(self) -> None:
        text = self.digits()
        self.push({"00": False, "01": True}.get(text) if text in ("00", "01") else int(text))

    def old_text(self) -> None:
        found = self.line_bytes()
        self.push(found.decode("raw-unicode-escape"))

    def line_bytes(self) -> bytes:
        end = self.data.index(b"\n", self.at)
        found = self.data[self.at : end]
        self.at = end + 1
        return found

    def text(self, format: str, size: int) -> None:
        self.push(self.take(self.whole(format, size)).decode("utf-8", "surrogatepass"))

    def raw(self, format: str, size: int) -> None:
        self.push(self.take(self.whole(format, size)))

    def long(self, format: str, size: int) -> None:
        length = self.whole(format, size)
        if length > _MOST_DIGITS:
            raise ValueError("too long a number")
        self.push(int.from_bytes(self.take(length), "little", signed=True))


_STOP = ord(".")

_STEPS: Mapping[int, Callable[[_Reader], Any]] = {
    ord("("): _Reader.mark,
    ord("N"): lambda r: r.push(None),
    0x88: lambda r: r.push(True),
    0x89: lambda r: r.push(False),
    ord("I"): _Reader.old_int,
    ord("L"): lambda r: r.push(int(r.digits().rstrip("L"))),
    ord("F"): lambda r: r.push(float(r.digits())),
    ord("J"): lambda r: r.push(struct.unpack("<i", r.take(4))[0]),
    ord("K"): lambda r: r.push(r.take(1)[0]),
    ord("M"): lambda r: r.push(struct.unpack("<H", r.take(2))[0]),
    ord("G"): lambda r: r.push(struct.unpack(">d", r.take(8))[0]),
    0x8A: lambda r: r.long("<B", 1),
    0x8B: lambda r: r.long("<i", 4),
    ord("V"): _Reader.old_text,
    ord("X"): lambda r: r.text("<I", 4),
    0x8C: lambda r: r.text("<B", 1),
    0x8D: lambda r: r.text("<Q", 8),
    ord("B"): lambda r: r.raw("<I", 4),
    ord("C"): lambda r: r.raw("<B", 1),
    0x8E: lambda r: r.raw("<Q", 8),
    ord("]"): lambda r: r.push([]),
    ord("}"): lambda r: r.push({}),
    ord(")"): lambda r: r.push(()),
    ord("l"): lambda r: r.push(r.since_mark()),
    ord("d"): _Reader.dict_since_mark,
    ord("t"): lambda r: r.push(tuple(r.since_mark())),
    0x85: lambda r: r.top(1),
    0x86: lambda r: r.top(2),
    0x87: lambda r: r.top(3),
    ord("a"): lambda r: r.extend([r.stack.pop()]),
    ord("e"): lambda r: r.extend(r.since_mark()),
    ord("s"): lambda r: r.fill(r.pop_pair()),
    ord("u"): lambda r: r.fill(r.since_mark()),
    ord("0"): lambda r: r.stack.pop(),
    ord("2"): lambda r: r.push(r.stack[-1]),
    ord("1"): _Reader.since_mark,
    ord("p"): lambda r: r.put(int(r.digits())),
    ord("q"): lambda r: r.put(r.take(1)[0]),
    ord("r"): lambda r: r.put(r.whole("<I", 4)),
    0x94: lambda r: r.put(len(r.memo)),
    ord("g"): lambda r: r.push(r.memo[int(r.digits())]),
    ord("h"): lambda r: r.push(r.memo[r.take(1)[0]]),
    ord("j"): lambda r: r.push(r.memo[r.whole("<I", 4)]),
    0x80: _Reader.protocol,
    0x95: _Reader.frame,
}
"""Opcode -> what it does. GLOBAL, REDUCE, BUILD, INST, OBJ, NEWOBJ, EXT*, PERSID and buffers are not here, so nothing is ever called."""

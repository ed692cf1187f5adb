"""The traceback of a failed run as text: where it was raised, through which calls, and from which other exceptions.

Like Python's own, but bounded, with short paths, and without values of variables: file, line, function and source line of the innermost
frames, and each exception's text. Total: whatever the exception or its code does, the result is text that UTF-8 and every store can
hold, at most MAX_TRACEBACK_BYTES long. If it is too long, each exception is shown with fewer, innermost frames.
"""

from __future__ import annotations

import functools
import linecache
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple, cast

from sickbay.domain.failure import MAX_TRACEBACK_BYTES, last_bytes
from sickbay.domain.raised import Redact, attribute, clean, full_name, is_a, message_of, parts, plain, short, unchanged
from sickbay.handlers.suspended import awaited_by, frames_of

MAX_STEPS: Final = 100_000
"""The most frames of a stack, or exceptions of a chain, that are read."""
MAX_TASKS: Final = 10
"""The longest chain of tasks awaiting each other that is followed."""
MAX_CHAIN: Final = 5
"""Of a longer chain of exceptions those nearest to the raised one are shown, and the first of all."""
MAX_LEAVES: Final = 5
MAX_NESTED: Final = 3
MAX_NOTES: Final = 3
MAX_DEEP: Final = 2
"""How deep several awaited tasks are shown: those of a task, and those of each of these."""
UNREADABLE: Final = "the traceback cannot be read"
_FROM: Final = "The above exception was the direct cause of the following exception:"
_DURING: Final = "During handling of the above exception, another exception occurred:"
CALLERS: Final = frozenset(
    {
        "threading",
        "sickbay.handlers.call",
        "sickbay.handlers.arguments",
        "sickbay.testing.running",
        "worker.handler_loop",
        "worker.handler_threads",
    }
)
"""The modules that call handlers; their frames, the outermost of every failure, are left out."""


def _current_folder() -> str:
    """Empty if it was deleted."""
    try:
        return str(Path.cwd())
    except OSError:
        return ""


_HERE: Final = _current_folder()

_cause: Final = cast("Any", BaseException).__cause__.__get__
_context: Final = cast("Any", BaseException).__context__.__get__
_suppressed: Final = cast("Any", BaseException).__suppress_context__.__get__
_traceback: Final = cast("Any", BaseException).__traceback__.__get__


class _Size(NamedTuple):
    """How much is shown: frames of the raised exception, frames of the others, and characters of each text.

    `redact` takes secrets out of texts and source lines.
    """

    frames: int
    others: int
    chars: int
    redact: Redact = unchanged


class _Place(NamedTuple):
    code: CodeType
    line: int
    scope: Any


_SIZES: Final = (_Size(20, 10, 500), _Size(10, 5, 300), _Size(6, 2, 200), _Size(3, 1, 100), _Size(1, 0, 60))


def traceback_of(error: BaseException, redact: Redact = unchanged) -> str:
    """The traceback of an exception, after those of its causes; the parts of a group below it.

    `redact` takes secrets out of each text before it is cut; the same in the functions below.
    """
    return _fit(lambda size: _chain(error, size, 0), redact)


def stack_of(frame: FrameType | None, headline: str, redact: Redact = unchanged) -> str:
    """The current stack of a thread, below a headline."""
    return _fit(lambda size: [headline, *_frames(_stack_places(frame), size)], redact)


def waiting_of(task: object, headline: str, redact: Redact = unchanged) -> str:
    """Where a suspended task waits, and the tasks that it awaits, from the outermost call to the innermost, below a headline."""
    return _fit(lambda size: [headline, *_waiting_lines(task, size, 0)], redact)


def _fit(shown: Callable[[_Size], Iterable[str]], redact: Redact) -> str:
    """The largest size that fits."""
    text = UNREADABLE
    once = redact if redact is unchanged else functools.cache(redact)  # each size shows the same texts
    try:
        for size in _SIZES:
            text = clean("\n".join(shown(size._replace(redact=once))), 2 * MAX_TRACEBACK_BYTES)
            if len(text.encode()) <= MAX_TRACEBACK_BYTES:
                break
        return last_bytes(text, MAX_TRACEBACK_BYTES)
    except BaseException:  # noqa: BLE001 - the exception's own code runs in there
        return UNREADABLE


def _chain(error: BaseException, size: _Size, nested: int) -> Iterator[str]:
    links = list(_links(error))
    between = len(links) - MAX_CHAIN
    shown = links if between <= 0 else [*links[: MAX_CHAIN - 1], (links[-1][0], f"({between} more exceptions in between)")]
    for index, (link, how) in reversed(list(enumerate(shown))):
        yield from _exception_lines(link, size._replace(frames=size.others) if index or nested else size, nested)
        if index:
            yield from ("", how, "")


def _links(error: BaseException) -> Iterator[tuple[BaseException, str]]:
    """The exception, its cause or context, and so on, each once; with the line that connects it to the one before."""
    seen = set[int]()
    one, how = cast("BaseException | None", error), ""
    while one is not None and id(one) not in seen and len(seen) < MAX_STEPS:
        seen.add(id(one))
        yield one, how
        cause = _cause(one)
        how = _DURING if cause is None else _FROM
        one = _context(one) if cause is None and not _suppressed(one) else cause


def _exception_lines(error: BaseException, size: _Size, nested: int) -> Iterator[str]:
    frames = list(_frames(_traceback_places(error), size))
    if frames:
        yield "Traceback (most recent call last):"
        yield from frames
    yield _headline(error, size)
    yield from (short(note, size.redact, size.chars) for note in _notes(error))
    inner = parts(error)
    if inner is not None:
        yield from _group_lines(inner, size, nested)


def _group_lines(inner: tuple[BaseException, ...], size: _Size, nested: int) -> Iterator[str]:
    shown = inner[:MAX_LEAVES] if nested < MAX_NESTED else ()
    for number, part in enumerate(shown, 1):
        yield from _indent(_chain(part, size, nested + 1), number)
    if len(inner) > len(shown):
        yield f"  ({len(inner) - len(shown)} more)"


def _headline(error: BaseException, size: _Size) -> str:
    module, name = full_name(type(error))
    cls = (name if module in {"builtins", "__main__", ""} else f"{module}.{name}")[:200]
    text = message_of(error)
    return clean(cls if text == name else f"{cls}: {short(text, size.redact, size.chars)}", size.chars + 202)


def _notes(error: BaseException) -> list[str]:
    """The notes of `add_note`."""
    notes = attribute(error, "__notes__")
    return [plain(note) for note, _ in zip(list.__iter__(notes), range(MAX_NOTES), strict=False)] if is_a(notes, list) else []


def _frames(places: Iterable[_Place], size: _Size) -> Iterator[str]:
    """The innermost frames; a repeated call counts once."""
    kept: deque[tuple[_Place, int]] = deque(maxlen=size.frames)
    distinct, last, times = 0, None, 0
    for place in places:
        if distinct == 0 and dict.get(place.scope, "__name__") in CALLERS:
            continue
        if last is not None and place.code is last.code and place.line == last.line:
            times += 1
            if kept:
                kept[-1] = (place, times)
            continue
        distinct, last, times = distinct + 1, place, 1
        kept.append((place, 1))
    if kept and distinct > len(kept):
        yield f"  ({distinct - len(kept)} outer calls)"
    for place, times in kept:
        yield from _frame(place, size.redact)
        if times > 1:
            yield f"  (repeated {times - 1} more times)"


def _frame(place: _Place, redact: Redact) -> Iterator[str]:
    name = clean(place.code.co_qualname, 200).replace("\n", "\\n")
    yield f'  File "{short_path(place.code.co_filename)}", line {place.line}, in {name}'
    line = linecache.getline(place.code.co_filename, place.line, place.scope).strip()
    if line:
        yield f"    {short(line, redact, 200)}"


@functools.lru_cache(1_000)
def short_path(path: str) -> str:
    """A path relative to the nearest folder of `sys.path` or the current one; else its last three parts."""
    starts = [f"{folder.rstrip('/')}/" for folder in (*sys.path, _HERE) if folder.strip("/")]
    nearest = max((start for start in starts if path.startswith(start)), key=len, default="")
    known = nearest or not path.startswith("/")
    shown = path[len(nearest) :] if known else "/".join(["...", *path.split("/")[-3:]])
    return clean(shown, 200).replace("\n", "\\n")


def _traceback_places(error: BaseException) -> Iterator[_Place]:
    step = _traceback(error)
    while step is not None:
        yield _Place(step.tb_frame.f_code, step.tb_lineno or 0, step.tb_frame.f_globals)
        step = step.tb_next


def _stack_places(frame: FrameType | None) -> list[_Place]:
    places: list[_Place] = []
    while frame is not None and len(places) < MAX_STEPS:
        places.append(_Place(frame.f_code, frame.f_lineno or 0, frame.f_globals))
        frame = frame.f_back
    return places[::-1]


def _waiting_lines(task: object, size: _Size, nested: int) -> Iterator[str]:
    """The frames of a waiting task, then of the task that it awaits; several of these each below its number."""
    frames: list[FrameType] = []
    several: list[object] = []
    for _ in range(MAX_TASKS):
        own = list(frames_of(task))
        frames += own
        several = awaited_by(task, own)
        if len(several) != 1:
            break
        (task,) = several
    yield from _frames((_Place(frame.f_code, frame.f_lineno or 0, frame.f_globals) for frame in frames), size)
    shown = several[: 2 if nested else MAX_LEAVES] if nested < MAX_DEEP and len(several) > 1 else []
    if shown:
        yield f"  It waits for {len(several)} tasks:"
    for number, one in enumerate(shown, 1):
        yield from _indent(_waiting_lines(one, size._replace(frames=size.others or 1), nested + 1), number)
    if len(several) > max(1, len(shown)):
        yield f"  ({len(several) - len(shown)} more)"


def _indent(lines: Iterable[str], number: int) -> Iterator[str]:
    margin = f"  {number}. "
    for line in "\n".join(lines).split("\n"):
        yield (margin + line).rstrip()
        margin = " " * len(margin)

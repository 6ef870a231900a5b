"""Prompts that change on the way, as AUTOMATIC1111's web UI (1.6 and later) writes them.

[a:b:0.5]  a, then b after half of the steps     [b:0.5]  nothing, then b     [a::0.5]  a, then nothing
[a:b:10]   the same after step 10                [a|b|c]  one after the other, step by step

A number with a point is a share of all steps, one without is a step. In a second pass both count on: 1.5 is half of its
way, and step 25 is its fifth where the first one had 20. Brackets may stand in brackets. What is none of these stays as it
is, for `grammar` to read; so does a whole prompt with a stray `|` or a backslash before nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

Schedule = tuple[tuple[int, str], ...]
"""Texts in the order of the steps, each with the last step that it is meant for, counted from 1."""

PIECE = re.compile(r"(?:[^\\\[\]():|]|\\.)+|[\[\]():|]")
WHEN = re.compile(r"\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*")
CLOSING, MARKS = {"[": "]", "(": ")"}, (":", "|")

Text = str | tuple[str, ...]
"""A text, or one for every step."""


@dataclass
class _Group:
    """What stands behind an opening bracket so far: texts between the marks `:` and `|`."""

    bracket: str
    parts: list[list[Text]] = field(default_factory=lambda: [[]])
    marks: str = ""

    def flat(self) -> list[Text]:
        """All of it, the bracket and the marks too."""
        rest = [[mark, *part] for mark, part in zip(self.marks, self.parts[1:], strict=True)]
        return [self.bracket, *self.parts[0], *(text for part in rest for text in part)]


def schedule(prompt: str, steps: int, before: int = 0) -> Schedule:
    """The texts of a prompt, the last one until `steps`; one alone when nothing in it changes.

    A second pass has the steps of the first one `before` it.
    """
    ends = {steps}
    whole: list[Text] = []
    opened: list[_Group] = []
    end, stray = 0, False

    def give_up() -> None:
        """Take all open brackets for text: what is around a bracket without a partner is no group."""
        nonlocal stray
        for group in opened:
            whole.extend(group.flat())
            stray = stray or "|" in group.marks
        opened.clear()

    for piece in PIECE.finditer(prompt):
        if piece.start() != end:
            break
        end, mark = piece.end(), piece[0]
        if mark in CLOSING:
            opened.append(_Group(mark))
        elif mark in CLOSING.values():
            texts = _closed(opened.pop(), mark, (steps, before), ends) if opened and _closable(opened[-1], mark) else None
            if texts is None:
                give_up()
            (opened[-1].parts[-1] if opened else whole).extend(texts or [mark])
        elif mark in MARKS and opened:
            opened[-1].marks += mark
            opened[-1].parts.append([])
        else:
            (opened[-1].parts[-1] if opened else whole).append(mark)
            stray = stray or mark == "|"
    give_up()
    if stray or end != len(prompt):
        return ((steps, prompt),)
    text = _joined(whole, steps)
    return tuple((last, _at(text, last - 1)) for last in sorted(ends))


def text_at(texts: Schedule, index: int) -> str:
    """The text for a step counted from 0, as A1111 looks it up: one step later than the schedule means it.

    There `[a:b:10]` draws eleven steps of a, and `[a|b]` goes a, a, b, a, b. Pictures of its users depend on that.
    """
    return next((text for last, text in texts if index <= last), texts[-1][1])


def _closable(group: _Group, bracket: str) -> bool:
    """Whether what this bracket closes is a group of this grammar."""
    if CLOSING[group.bracket] != bracket:
        return False
    if bracket == ")":
        return group.marks in ("", ":")
    return set(group.marks) <= {"|"} or (group.marks in (":", "::") and _when(group) is not None)


def _closed(group: _Group, bracket: str, way: tuple[int, int], ends: set[int]) -> list[Text]:
    """What a group that ends in this bracket comes to. Adds the last steps before its changes to `ends`."""
    steps, taken = way
    if bracket == ")" or not group.marks:
        return [*group.flat(), bracket]  # stress, which `grammar` reads
    if "|" in group.marks:
        choices = [_joined(part, steps) for part in group.parts]
        ends.update(range(1, steps + 1))
        return [tuple(_at(choices[step % len(choices)], step) for step in range(steps))]
    before, after = (_joined(part, steps) for part in ([], *group.parts[:-1])[-2:])
    last = _last_step(_when(group) or "", steps, taken)
    ends.update({last} if last > 0 else ())
    return [tuple(_at(before if step < last else after, step) for step in range(steps))]


def _when(group: _Group) -> str | None:
    """The number that ends a group, if it is one."""
    told = group.parts[-1]
    found = WHEN.fullmatch("".join(text for text in told if isinstance(text, str)))
    return found[1] if found and all(isinstance(text, str) for text in told) else None


def _last_step(number: str, steps: int, taken: int) -> int:
    """The last step before a change, counted from 1, at most `steps`; not above 0 when it comes before the first."""
    value = (float(number) - bool(taken)) * steps if "." in number else float(number) - taken
    return steps if value >= steps else math.trunc(max(value, 0))


def _joined(texts: Sequence[Text], steps: int) -> Text:
    """Texts one after the other."""
    if all(isinstance(text, str) for text in texts):
        return "".join(map(str, texts))
    return tuple("".join(_at(text, step) for text in texts) for step in range(steps))


def _at(text: Text, step: int) -> str:
    return text if isinstance(text, str) else text[step]

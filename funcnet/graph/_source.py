"""The source line of an operation, and the variables that the source assigns its results to.

JAX keeps with every equation the Python stack that made it. From the position of an expression,
`w1 * a`, and the assignments in the file, `b = w1 * a`, follows the name: `b`.
"""

import ast
import dataclasses
import functools
import itertools
import linecache
import os
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple, TypeAlias

import jax
import jaxtyping

Span: TypeAlias = tuple[int | None, int | None, int | None, int | None]  # code.co_positions
Targets: TypeAlias = Mapping[str, str]
"""The names on the left of an assignment, by their position in the value: `{"": "b"}`; for
`(w, b), y = ...` `{"[0][0]": "w", "[0][1]": "b", "[1]": "y"}`."""

Syntax: TypeAlias = tuple[dict[Span, Targets], list[tuple[int, int]]]
"""The targets of each assignment, by the position of its right side; the lines of loops."""

_WRAPPERS = (os.path.dirname(jax.__file__), os.path.dirname(jaxtyping.__file__))
_STANDARD = sysconfig.get_path("stdlib")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """A line of source.

    Attributes:
      file: its path, `<stdin>`, or the name of a notebook's cell.
      line: its number, from 1.
      function: the function around it.
      text: the line itself, empty where the source is missing.
    """

    file: str
    line: int
    function: str
    text: str

    def __str__(self) -> str:
        """`lecture.py:7 in lecture: b = w1 * a`."""
        text = f": {self.text}" if self.text else ""
        return f"{Path(self.file).name}:{self.line} in {self.function}{text}"


class Frame(NamedTuple):
    """A position in running code; a tuple, because frames are compared by the thousand."""

    code: CodeType
    instruction: int

    @property
    def span(self) -> Span:
        return _positions(self.code)[self.instruction // 2]

    @property
    def source(self) -> Source:
        """The line the expression begins on."""
        line = self.span[0] or self.code.co_firstlineno
        return Source(
            file=self.code.co_filename,
            line=line,
            function=self.code.co_qualname,
            text=linecache.getline(self.code.co_filename, line).strip(),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stack:
    """The calls that led to an operation, the outermost first, and the turns of opened loops."""

    whole: tuple[Frame, ...] = ()
    turn: tuple[int, ...] = ()

    @functools.cached_property
    def user(self) -> tuple[Frame, ...]:
        """The user's calls, without those of JAX between and below."""
        return tuple(frame for frame in self.whole if not _is_library(frame.code))

    def call(self, source_info: Any) -> "Stack":
        """Return the stack of an equation inside a function that is called here."""
        traceback = source_info.traceback
        inner = tuple(map(Frame, *traceback.raw_frames()))[::-1] if traceback else ()
        return dataclasses.replace(self, whole=self.whole + inner)

    def in_turn(self, k: int) -> "Stack":
        """Return the stack within the turn `k` of a loop that stands here."""
        return dataclasses.replace(self, turn=(*self.turn, k))

    @property
    def source(self) -> Source | None:
        """The user's line that is closest to the operation."""
        return self.user[-1].source if self.user else None

    @property
    def library(self) -> Iterator[str]:
        """The names of the functions that the user's line called, the outermost first."""
        below = itertools.takewhile(lambda frame: frame != self.user[-1], reversed(self.whole))
        return (frame.code.co_name for frame in reversed(list(below)))


@functools.cache
def _positions(code: CodeType) -> tuple[Span, ...]:
    return tuple(code.co_positions())


@functools.cache
def _is_library(code: CodeType) -> bool:
    """Whether code belongs to JAX, to Python or to a wrapper, and not to the user."""
    file = code.co_filename
    standard = file.startswith(_STANDARD) and "site-packages" not in file
    return standard or file.startswith(_WRAPPERS) or file.startswith("<@beartype")


def evaluations(steps: Sequence[tuple[str, Stack]]) -> Iterator[tuple[Targets, range, bool]]:
    """Yield the assignments that the named operations carried out, those of inner calls first.

    Neighbours with the same outer frames come from one expression. If it is the right side of an
    assignment, the last of them made its value. Each has its targets, the indices of its
    operations, and whether the expression itself calls the last, and not a function of the user's.
    """
    syntax = functools.cache(_syntax)
    is_repeated = functools.cache(lambda frame: _is_repeated(frame, syntax))
    stacks = [stack for _, stack in steps]
    for level in reversed(range(max((len(stack.user) for stack in stacks), default=0))):
        end = 0
        for run in _runs(steps, level, is_repeated):
            frame, last = stacks[run[0]].user[level], run[-1]
            if targets := syntax(frame.code.co_filename)[0].get(frame.span):
                first = _first_step(stacks, level, run[0], end)
                end = last + 1
                yield targets, range(first, end), len(stacks[last].user) == level + 1


def _first_step(stacks: Sequence[Stack], level: int, first: int, end: int) -> int:
    """Return the earliest operation before `first` that stands within the same expression."""
    whole = stacks[first].user[: level + 1]
    while first > end and _is_within(stacks[first - 1].user[: level + 1], whole):
        first -= 1
    return first


def _is_within(part: tuple[Frame, ...], whole: tuple[Frame, ...]) -> bool:
    if len(part) != len(whole) or part[:-1] != whole[:-1] or part[-1].code != whole[-1].code:
        return False
    (first, last, start, stop), (line, end, column, end_column) = part[-1].span, whole[-1].span
    return (line, column) <= (first, start) and (last, stop) <= (end, end_column)


def _runs(
    steps: Sequence[tuple[str, Stack]], level: int, is_repeated: Callable[[Frame], bool]
) -> Iterator[list[int]]:
    """Yield the indices of neighbours whose stacks agree up to a level.

    A run that comes again to its first step is split there: it is the next turn of a loop, unless
    only a function that is called here has a loop.
    """
    prefixes = itertools.groupby(range(len(steps)), key=lambda i: steps[i][1].user[: level + 1])
    for prefix, group in prefixes:
        if len(prefix) <= level:
            continue
        here = any(map(is_repeated, prefix))
        run: list[int] = []
        for i in group:
            name, stack = steps[i]
            again = run and (name, stack.whole) == (steps[run[0]][0], steps[run[0]][1].whole)
            if again and (here or not any(map(is_repeated, stack.user[level + 1 :]))):
                yield run
                run = []
            run.append(i)
        yield run


def _syntax(file: str) -> Syntax:
    """Return the syntax of a file; nothing where the source is missing."""
    try:
        nodes = list(ast.walk(ast.parse("".join(linecache.getlines(file)))))
    except SyntaxError:  # a cell with %magic, or a template that only looks like Python
        return {}, []
    loops = [node for node in nodes if isinstance(node, ast.For | ast.While)]
    return (
        {span: targets for node in nodes for span, targets in _assigned_by(node)},
        [(loop.lineno, loop.end_lineno or loop.lineno) for loop in loops],
    )


def _is_repeated(frame: Frame, syntax: Callable[[str], Syntax]) -> bool:
    line, begin = frame.source.line, frame.code.co_firstlineno
    loops = syntax(frame.code.co_filename)[1]
    return any(begin <= first <= line <= last for first, last in loops)


def _assigned_by(node: ast.AST) -> Iterator[tuple[Span, Targets]]:
    match node:
        case (
            ast.Assign(targets=[target, *_], value=value)
            | ast.AnnAssign(target=target, value=ast.expr() as value)
            | ast.NamedExpr(target=target, value=value)
        ):
            yield from _bound(target, value)
        case ast.AugAssign(target=target):
            yield _span(node), {"": ast.unparse(target)}


def _bound(target: ast.expr, value: ast.expr) -> Iterator[tuple[Span, Targets]]:
    """Yield the parts of a target with their values: of a pair, of a condition's branches."""
    match target, value:
        case (ast.Tuple() | ast.List()) as left, (ast.Tuple() | ast.List()) as right:
            for part, element in zip(left.elts, right.elts, strict=False):
                yield from _bound(part, element)
        case _, ast.IfExp():
            yield from _bound(target, value.body)
            yield from _bound(target, value.orelse)
        case _, ast.Subscript(value=ast.Call() as call, slice=ast.Constant(value=int(i))):
            yield _span(value), dict(_named(target))
            yield _span(call), {f"[{i}]{path}": name for path, name in _named(target)}
        case _:
            yield _span(value), dict(_named(target))


def _named(target: ast.expr, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the names in a target, up to a star, with their positions in the value."""
    if not isinstance(target, ast.Tuple | ast.List):
        yield path, ast.unparse(target)
        return
    before = itertools.takewhile(lambda part: not isinstance(part, ast.Starred), target.elts)
    for i, part in enumerate(before):
        yield from _named(part, f"{path}[{i}]")


def _span(node: ast.expr | ast.stmt) -> Span:
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset

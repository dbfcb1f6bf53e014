"""Where in the source an operation stands, and by which variables its results are called there.

JAX keeps with every equation the Python stack that made it. From the position of an expression,
`w1 * a`, and the assignments in the file, `b = w1 * a`, follows the name: `b`.
"""

import ast
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

Span: TypeAlias = tuple[int | None, int | None, int | None, int | None]
"""First line, last line, first column, last column, as `code.co_positions` counts them."""

_WRAPPERS = (os.path.dirname(jax.__file__), os.path.dirname(jaxtyping.__file__))
_STANDARD = sysconfig.get_path("stdlib")


class Source(NamedTuple):
    """A line of source.

    Attributes:
      file: its path, or what stands for one: `<stdin>`, a notebook's cell.
      line: its number, from 1.
      function: the function it belongs to.
      text: the line itself, empty where the source is not to be had.
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
    """A place in running code; two calls from one place give equal frames."""

    code: CodeType
    instruction: int

    @property
    def span(self) -> Span:
        """Where the expression stands that was being evaluated."""
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


class Stack(NamedTuple):
    """The calls that led to an operation, the outermost first.

    Attributes:
      user: the frames of the user's own code.
      whole: all frames, with those of JAX between and below.
    """

    user: tuple[Frame, ...] = ()
    whole: tuple[Frame, ...] = ()

    def call(self, inner: "Stack") -> "Stack":
        """The stack of an operation inside of a function that is called here."""
        return Stack(user=self.user + inner.user, whole=self.whole + inner.whole)

    @property
    def source(self) -> Source | None:
        """The user's line that is closest to the operation."""
        return self.user[-1].source if self.user else None

    @property
    def library(self) -> Iterator[str]:
        """The names of the functions that the user's line called, the outermost first."""
        below = itertools.takewhile(lambda frame: frame != self.user[-1], reversed(self.whole))
        return (frame.code.co_name for frame in reversed(list(below)))


class Evaluation(NamedTuple):
    """Operations, one after another, that evaluated the right side of one assignment.

    Attributes:
      targets: the names on its left side, by where in the value they stand: `{"": "b"}`, of
        `(w, b), y = ...` `{"[0][0]": "w", "[0][1]": "b", "[1]": "y"}`.
      first: the number of the first operation.
      last: the number of the last; its results are what the targets name.
      is_direct: whether the last is called in the expression itself, by no function of the user's.
    """

    targets: Mapping[str, str]
    first: int
    last: int
    is_direct: bool


@functools.cache
def _positions(code: CodeType) -> tuple[Span, ...]:
    return tuple(code.co_positions())


def stack_of(source_info: Any) -> Stack:
    """The stack of an equation, from what JAX keeps with it."""
    traceback = source_info.traceback
    whole = tuple(map(Frame, *traceback.raw_frames()))[::-1] if traceback else ()
    return Stack(user=tuple(frame for frame in whole if not _is_library(frame.code)), whole=whole)


@functools.cache
def _is_library(code: CodeType) -> bool:
    """Whether code is of JAX, of Python or of a wrapper: not what a user wrote."""
    file = code.co_filename
    standard = file.startswith(_STANDARD) and "site-packages" not in file
    return standard or file.startswith(_WRAPPERS) or file.startswith("<@beartype")


def evaluations(steps: Sequence[tuple[str, Stack]]) -> list[Evaluation]:
    """The assignments that a program carried out; those of inner calls first.

    Args:
      steps: of every operation its name and the stack that made it, in the order of the program.

    Neighbours with the same outer frames come from one expression. If it is the right side of an
    assignment, the last of them made its value.
    """
    tree = functools.cache(_tree)
    assigned = functools.cache(lambda file: _assignments(tree(file)))
    loops = functools.cache(lambda file: _loops(tree(file)))
    is_repeated = functools.cache(lambda frame: _is_repeated(frame, loops))
    stacks = [stack for _, stack in steps]
    depth = max((len(stack.user) for stack in stacks), default=0)
    found = []
    for level in reversed(range(depth)):
        end = 0
        for run in _runs(steps, level, is_repeated):
            frame = stacks[run[0]].user[level]
            if targets := assigned(frame.code.co_filename).get(frame.span):
                first = _first_step(stacks, level, run[0], end)
                end = run[-1] + 1
                found.append(
                    Evaluation(
                        targets=targets,
                        first=first,
                        last=run[-1],
                        is_direct=len(stacks[run[-1]].user) == level + 1,
                    )
                )
    return found


def _first_step(stacks: Sequence[Stack], level: int, first: int, end: int) -> int:
    """The first of the operations before `first` that stand within the same expression."""
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
    """Numbers of neighbours whose stacks agree up to a level.

    A run that comes again to the step that it began with is the next turn of a loop, and split;
    but not where only a function that is called here has a loop.
    """
    prefixes = itertools.groupby(range(len(steps)), key=lambda i: steps[i][1].user[: level + 1])
    for prefix, group in prefixes:
        if len(prefix) <= level:
            continue
        here = any(map(is_repeated, prefix))
        run: list[int] = []
        for i in group:
            again = run and _same_step(steps[i], steps[run[0]])
            if again and (here or not any(map(is_repeated, steps[i][1].user[level + 1 :]))):
                yield run
                run = []
            run.append(i)
        yield run


def _same_step(one: tuple[str, Stack], other: tuple[str, Stack]) -> bool:
    return one[0] == other[0] and one[1].whole == other[1].whole


def _tree(file: str) -> ast.Module:
    """A file's syntax; empty where it is not to be had."""
    try:
        return ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:  # a cell with %magic, or a template that only looks like Python
        return ast.Module(body=[], type_ignores=[])


def _loops(tree: ast.Module) -> list[tuple[int, int]]:
    """Of every `for` and `while` its first and last line."""
    loops = (node for node in ast.walk(tree) if isinstance(node, ast.For | ast.While))
    return [(loop.lineno, loop.end_lineno or loop.lineno) for loop in loops]


def _is_repeated(frame: Frame, loops: Callable[[str], list[tuple[int, int]]]) -> bool:
    """Whether a place in a function is within a loop of that function."""
    line, begin = frame.source.line, frame.code.co_firstlineno
    return any(begin <= first <= line <= last for first, last in loops(frame.code.co_filename))


def _assignments(tree: ast.Module) -> dict[Span, dict[str, str]]:
    """Of every assignment in a file: where its right side stands, and the names on its left."""
    return {span: targets for node in ast.walk(tree) for span, targets in _assigned_by(node)}


def _assigned_by(node: ast.AST) -> Iterator[tuple[Span, dict[str, str]]]:
    match node:
        case ast.Assign(targets=[target, *_], value=value):
            yield from _bound(target, value)
        case ast.AnnAssign(target=target, value=ast.expr() as value):
            yield from _bound(target, value)
        case ast.NamedExpr(target=target, value=value):
            yield from _bound(target, value)
        case ast.AugAssign(target=target):
            yield _span(node), {"": ast.unparse(target)}


def _bound(target: ast.expr, value: ast.expr) -> Iterator[tuple[Span, dict[str, str]]]:
    """What a target gets: of a pair its parts, of a condition the branch that was evaluated."""
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
    """The names in a target and where they stand in what it gets, but after a star."""
    if not isinstance(target, ast.Tuple | ast.List):
        yield path, ast.unparse(target)
        return
    before = itertools.takewhile(lambda part: not isinstance(part, ast.Starred), target.elts)
    for i, part in enumerate(before):
        yield from _named(part, f"{path}[{i}]")


def _span(node: ast.expr | ast.stmt) -> Span:
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset

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
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple, TypeAlias

import jax
import jaxtyping

Span: TypeAlias = tuple[tuple[int, int], tuple[int, int]]  # begin and end: line and column
Targets: TypeAlias = Mapping[str, str]
"""The names on the left of an assignment, by their position in the value: `{"": "b"}`; for
`(w, b), y = ...` `{"[0][0]": "w", "[0][1]": "b", "[1]": "y"}`."""

_WRAPPERS = (os.path.dirname(jax.__file__), os.path.dirname(jaxtyping.__file__))
_STANDARD = sysconfig.get_path("stdlib")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """A line of source."""

    file: str  # its path, `<stdin>`, or the name of a notebook's cell
    line: int  # its number, from 1
    function: str  # the function around it
    text: str  # the line itself, empty where the source is missing

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
        line, end, column, end_column = _positions(self.code)[self.instruction // 2]
        return (line or self.code.co_firstlineno, column or 0), (end or 0, end_column or 0)

    @property
    def source(self) -> Source:
        """The line the expression begins on."""
        (line, _), _ = self.span
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


@functools.cache
def _positions(code: CodeType) -> tuple[tuple[int | None, ...], ...]:
    return tuple(code.co_positions())


@functools.cache
def _is_library(code: CodeType) -> bool:
    """Whether code belongs to JAX, to Python or to a wrapper, and not to the user."""
    file = code.co_filename
    standard = file.startswith(_STANDARD) and "site-packages" not in file
    return standard or file.startswith(_WRAPPERS) or file.startswith("<@beartype")


class Assignment(NamedTuple):
    span: Span  # the position of the right side
    targets: Targets


@functools.cache
def assignment(frame: Frame) -> Assignment | None:
    """Return the assignment whose right side is around a position: the innermost, if any."""
    around = [found for found in _syntax(frame.code)[0] if _is_within(frame.span, found.span)]
    return around[-1] if around else None


@functools.cache
def is_repeated(frame: Frame) -> bool:
    """Whether a loop of the same function is around a position."""
    begin, loops = (frame.code.co_firstlineno, 0), _syntax(frame.code)[1]
    return any(begin <= loop[0] and _is_within(frame.span, loop) for loop in loops)


@functools.cache
def _syntax(code: CodeType) -> tuple[list[Assignment], list[Span]]:
    """Return the assignments and the loops of a function's file, the outer ones first."""
    try:
        nodes = list(ast.walk(ast.parse("".join(linecache.getlines(code.co_filename)))))
    except SyntaxError:  # a cell with %magic, or a template that only looks like Python
        return [], []
    loops = [_span(node) for node in nodes if isinstance(node, ast.For | ast.While)]
    return list(itertools.chain(*map(_assigned_by, nodes))), loops


def _is_within(part: Span, whole: Span) -> bool:
    return whole[0] <= part[0] and part[1] <= whole[1]


def _assigned_by(node: ast.AST) -> Iterator[Assignment]:
    match node:
        case (
            ast.Assign(targets=[target, *_], value=value)
            | ast.AnnAssign(target=target, value=ast.expr() as value)
            | ast.NamedExpr(target=target, value=value)
        ):
            yield from _bound(target, value)
        case ast.AugAssign(target=target):
            yield Assignment(_span(node), {"": ast.unparse(target)})


def _bound(target: ast.expr, value: ast.expr) -> Iterator[Assignment]:
    """Yield the parts of a target with their values: of a pair, of a condition's branches."""
    match target, value:
        case (ast.Tuple() | ast.List()) as left, (ast.Tuple() | ast.List()) as right:
            for part, element in zip(left.elts, right.elts, strict=False):
                yield from _bound(part, element)
        case _, ast.IfExp():
            yield from _bound(target, value.body)
            yield from _bound(target, value.orelse)
        case _, ast.Subscript(value=ast.Call() as call, slice=ast.Constant(value=int(i))):
            yield Assignment(_span(value), dict(_named(target)))
            dropped = {"[0]": "_", "[1]": "_"}  # the parts of the value, of which one has a name
            yield Assignment(_span(call), dropped | dict(_named(target, f"[{i}]")))
        case _:
            yield Assignment(_span(value), dict(_named(target)))


def _named(target: ast.expr, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the names in a target, up to a star, with their positions in the value."""
    if not isinstance(target, ast.Tuple | ast.List):
        yield path, ast.unparse(target)
        return
    before = itertools.takewhile(lambda part: not isinstance(part, ast.Starred), target.elts)
    for i, part in enumerate(before):
        yield from _named(part, f"{path}[{i}]")


def _span(node: ast.expr | ast.stmt) -> Span:
    end = node.end_lineno or node.lineno, node.end_col_offset or 0
    return (node.lineno, node.col_offset), end

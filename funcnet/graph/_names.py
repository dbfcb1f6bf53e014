"""The names of a computation's values: the user's own, where the source has them."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from funcnet.graph._nodes import is_number
from funcnet.graph._notation import call, expression, number
from funcnet.graph._source import Targets, assignment, is_repeated
from funcnet.graph._tape import Operation, Tape


@dataclasses.dataclass(frozen=True, kw_only=True)
class Names:
    """The names of the values of a tape, by their indices on it."""

    tape: Tape
    of: Mapping[int, str]  # every value has one, but the numbers of the source
    owners: Mapping[int, int]  # of a step of an assignment the value that is assigned
    aliases: Mapping[str, int]  # names that only called functions have: the first such value

    def text(self, index: int) -> str:
        """Return the name of a value; for a number of the source the number."""
        return number(self.tape.values[index]) if index in self.tape.literals else self.of[index]

    def number(self, index: int) -> str:
        """Return the number of a value that is one; else the name."""
        value = self.tape.values[index]
        return number(value) if is_number(value) else self.text(index)

    def expression(self, operation: Operation, written: Callable[[int], str]) -> str:
        """Return an operation as a formula, with its operands written by `text` or `number`."""
        operands = list(map(written, operation.operands))
        if operation.name != operation.primitive:  # a function of the user's, whatever its name
            return call(operation.name, operands)
        return expression(operation.name, operands, operation.parameters)


def variable_names(tape: Tape, output_name: str, input_names: Sequence[str]) -> Names:
    """Name every value of a tape; `output_name` is for an output that has no other name."""
    assigned, owners = _assigned_names(tape)
    assigned += zip(tape.inputs, input_names, strict=True)
    if len(tape.outputs) == 1:
        assigned.insert(0, (tape.outputs[0], output_name))
    named = dict(assigned)
    taken = set(named.values())
    fresh = (f"v{i}" for i in itertools.count(1) if f"v{i}" not in taken)
    parts = {op.results[0]: op for op in tape.operations if op.primitive == "index"}
    names: dict[int, str] = {}
    seen: Counter[str] = Counter()
    for index in range(len(tape.values)):
        part = parts.get(index)
        if part and part.operands[0] in names:
            name = f"{names[part.operands[0]]}[{part.parameters['at']}]"
        elif index in tape.literals and index not in named:
            continue
        else:
            name = named.get(index) or next(fresh)
        seen[name] += 1
        names[index] = name if seen[name] == 1 else f"{name}#{seen[name]}"
    return Names(
        tape=tape,
        of=names,
        owners={index: owner for index, owner in owners.items() if index not in named},
        aliases={name: index for index, name in reversed(assigned) if name not in taken},
    )


RETURNED: Mapping[tuple[str, str], str] = {
    ("scan", "scan"): "",
    ("while_loop", "while"): "",
    ("cond", "cond"): "",
    ("switch", "cond"): "",
    ("map", "scan"): "[1]",
    ("fori_loop", "scan"): "[0][1]",
    ("fori_loop", "while"): "[2]",
}
"""The part of a body's result that the caller gets, by the called function and the loop."""


def _assigned_names(tape: Tape) -> tuple[list[tuple[int, str]], dict[int, int]]:
    """Return the names that the source gives to results; the outermost call has the last word.

    With them goes, for each step of an assignment, the index of the value that is assigned.
    """
    named: list[tuple[int, str]] = []
    owners: dict[int, int] = {}
    names: dict[int, str] = {}
    for level in range(max((len(op.stack.user) for op in tape.operations), default=0)):
        for operation, last, targets in _evaluated(tape.operations, level):
            if operation is last:
                is_direct = len(last.stack.user) == level + 1  # the function itself calls it
                names = _result_names(targets, last, is_direct=is_direct)
                turn = "".join(f"[{k}]" for k in last.stack.turn)
                named += [(index, name + turn) for index, name in names.items() if name != "_"]
            elif names:
                owners |= dict.fromkeys(operation.results, next(iter(names)))
    return named[::-1], owners


def _evaluated(
    operations: Sequence[Operation], level: int
) -> Iterator[tuple[Operation, Operation, Targets]]:
    """Yield the operations that assignments carried out, last to first.

    Each has the last operation of its assignment, which made the value, and the targets. An
    assignment is over where a part of its right side comes after the whole: in the next turn of a
    loop. There the last operation may come again, too.
    """
    last, before, was_whole = None, None, False
    for operation in reversed(operations):
        user = operation.stack.user
        found = assignment(user[level]) if len(user) > level else None
        here = found and (user[:level], found)
        is_whole = found is not None and found.span == user[level].span
        if here != before:
            last = None
        if is_whole and (not last or not was_whole or _comes_again(operation, last, level)):
            last = operation
        if last and found:
            yield operation, last, found.targets
        before, was_whole = here, is_whole


def _comes_again(operation: Operation, last: Operation, level: int) -> bool:
    """Whether an operation ends a turn as `last` does: of a loop, or of a function called again."""
    user, is_opened = operation.stack.user, operation.stack.turn != last.stack.turn
    loops = [k for k, frame in enumerate(user) if is_repeated(frame)]
    same = (operation.name, operation.stack.whole) == (last.name, last.stack.whole)
    return same and (loops[0] <= level if loops else is_opened or len(user) > level + 1)


def _result_names(targets: Targets, last: Operation, *, is_direct: bool) -> dict[int, str]:
    """Name the results of an assignment's last operation, `_` for one that is dropped."""
    paths = _result_paths(last) if is_direct else None
    if paths is None and len(targets) == len(last.results):
        paths = dict(zip(last.results, targets, strict=True))
    return {
        index: name if name == "_" else name + path.removeprefix(start)
        for index, path in (paths or {}).items()
        for start, name in targets.items()
        if path.startswith(start)
    }


def _result_paths(operation: Operation) -> dict[int, str] | None:
    """Return where a loop's results stand in the value that its caller gets, if they do.

    The body returns the same pytree: a scan's carry and its `y`.
    """
    stack = operation.stack
    below = itertools.takewhile(lambda frame: frame != stack.user[-1], reversed(stack.whole))
    calls = [(frame.code.co_name, operation.primitive) for frame in below]
    parts = [RETURNED[call] for call in calls if call in RETURNED]
    if not parts:
        return None
    parameters, returned = operation.parameters, f"result{parts[-1]}"  # of the outermost call
    body = parameters.get("jaxpr") or parameters.get("body_jaxpr") or parameters["branches"][0]
    paths = body.jaxpr.debug_info.result_paths  # None after vmap
    return paths and {
        index: path.removeprefix(returned)
        for index, path in zip(operation.results, paths, strict=True)
        if path.startswith(returned)
    }

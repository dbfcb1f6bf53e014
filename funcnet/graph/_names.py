"""The names of a computation's values: the user's own, where the source has them."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from funcnet.graph._nodes import is_number
from funcnet.graph._notation import call, expression, number
from funcnet.graph._source import Targets, evaluations
from funcnet.graph._tape import Operation, Tape


@dataclasses.dataclass(frozen=True, kw_only=True)
class Names:
    """The names of the values of a tape, by their indices on it.

    Attributes:
      of: the name of every value but the numbers of the source.
      owners: for a step of an assignment, the index of the value that is assigned.
      aliases: the names that only called functions have, with the index of the first such value.
    """

    tape: Tape
    of: Mapping[int, str]
    owners: Mapping[int, int]
    aliases: Mapping[str, int]

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
    """Return the names that the source gives to results; the outermost call has the last word."""
    named: list[tuple[int, str]] = []
    owners: dict[int, int] = {}
    for targets, run, is_direct in evaluations([(op.name, op.stack) for op in tape.operations]):
        last = tape.operations[run[-1]]
        names = dict(_result_names(targets, last, is_direct))
        turn = "".join(f"[{k}]" for k in last.stack.turn)
        named += [(index, name + turn) for index, name in names.items() if name != "_"]
        for i in run[:-1] if names else ():
            for index in tape.operations[i].results:
                _ = owners.setdefault(index, next(iter(names)))
    return named, owners


def _result_names(targets: Targets, last: Operation, is_direct: bool) -> Iterator[tuple[int, str]]:
    """Name the results of an assignment's last operation, `_` for one that is dropped."""
    paths = _result_paths(last) if is_direct else None
    if paths is None:
        if len(targets) == len(last.results):
            yield from zip(last.results, targets.values(), strict=True)
        return
    for index, path in zip(last.results, paths, strict=True):
        for start, name in targets.items():
            if path is not None and path.startswith(start):
                yield index, name if name == "_" else name + path.removeprefix(start)


def _result_paths(operation: Operation) -> list[str | None] | None:
    """Return where a loop's results stand in the value that its caller gets; `None` if nowhere.

    The body returns the same pytree: a scan's carry and its `y`.
    """
    calls = [(function, operation.primitive) for function in operation.stack.library]
    part = next((RETURNED[call] for call in calls if call in RETURNED), None)
    if part is None:
        return None
    parameters, returned = operation.parameters, f"result{part}"
    body = parameters.get("jaxpr") or parameters.get("body_jaxpr") or parameters["branches"][0]
    paths = body.jaxpr.debug_info.result_paths  # None after vmap
    return paths and [
        path.removeprefix(returned) if path.startswith(returned) else None for path in paths
    ]

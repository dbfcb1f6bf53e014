"""What the values of a computation are called: as the user calls them, where the source says it."""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax

from funcnet._jaxpr import positional_names
from funcnet.graph import _notation as notation
from funcnet.graph._nodes import is_number
from funcnet.graph._source import Evaluation, evaluations
from funcnet.graph._tape import Operation, Tape


def argument_names(
    function: Callable[..., Any], args: tuple, kwargs: Mapping[str, Any]
) -> list[str]:
    """`w1`, `params.weight`, `layers[0].bias`: what each array is called in the function.

    >>> argument_names(lambda w, *x: w, ({"b": 1.0}, 2.0, 3.0), {"y": 4.0})
    ["w['b']", 'x[0]', 'x[1]', 'y']
    """
    paths, _ = jax.tree_util.tree_flatten_with_path((args, kwargs))
    parameters = positional_names(function, len(args))
    names = []
    for (kind, key, *rest), _ in paths:
        parameter = parameters[key.idx] if kind.idx == 0 else key.key
        names.append(parameter + jax.tree_util.keystr(tuple(rest)))
    return names


def function_name(function: Callable[..., Any]) -> str:
    """The name of a function; one without a name is called by its result, `output`."""
    name = getattr(function, "__name__", type(function).__name__)
    return "output" if name == "<lambda>" else name


class Names(NamedTuple):
    """What the values of a tape are called.

    Attributes:
      tape: of a run.
      of: of every place but the numbers of the source its name.
      owners: of the steps of an assignment the place of what it names.
      aliases: places by what functions that were called name their values, and the callers do not;
        the first of several.
    """

    tape: Tape
    of: Mapping[int, str]
    owners: Mapping[int, int]
    aliases: Mapping[str, int]

    def text(self, place: int) -> str:
        """The name of a value; of a number of the source the number."""
        value = self.tape.values[place]
        return notation.number(value) if place in self.tape.literals else self.of[place]

    def number(self, place: int) -> str:
        """The number of a value that is one; else the name."""
        value = self.tape.values[place]
        return notation.number(value) if is_number(value) else self.text(place)

    def expression(self, operation: Operation, written: Callable[[int], str]) -> str:
        """An operation as a formula, with its operands written in such a way."""
        operands = list(map(written, operation.operands))
        if operation.name != operation.primitive:  # a function of the user's, whatever its name
            return notation.call(operation.name, operands)
        return notation.expression(operation.name, operands, operation.parameters)


def variable_names(tape: Tape, output_name: str, input_names: Sequence[str]) -> Names:
    """Names every value of a tape.

    Args:
      tape: of a run.
      output_name: the name of an output that has no other.
      input_names: of the inputs.
    """
    assigned, owners = _assigned_names(tape)
    assigned += zip(tape.inputs, input_names, strict=True)
    if len(tape.outputs) == 1:
        assigned.insert(0, (tape.outputs[0], output_name))
    named = dict(assigned)
    taken, names = set(named.values()), {}
    fresh = (f"v{i}" for i in itertools.count(1) if f"v{i}" not in taken)
    seen: dict[str, int] = defaultdict(int)
    made_by = {place: operation for operation in tape.operations for place in operation.results}
    for place in range(len(tape.values)):
        operation = made_by.get(place)
        if operation and operation.primitive == "index" and operation.operands[0] in names:
            name = f"{names[operation.operands[0]]}[{operation.parameters['at']}]"
        elif place in named:
            name = named[place]
        elif place in tape.literals:
            continue
        else:
            name = next(fresh)
        seen[name] += 1
        names[place] = name if seen[name] == 1 else f"{name}#{seen[name]}"
    return Names(
        tape=tape,
        of=names,
        owners={place: owner for place, owner in owners.items() if place not in named},
        aliases={name: place for place, name in reversed(assigned) if name not in taken},
    )


RETURNED: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("scan", "scan"): "",
        ("while_loop", "while"): "",
        ("cond", "cond"): "",
        ("switch", "cond"): "",
        ("map", "scan"): "[1]",
        ("fori_loop", "scan"): "[0][1]",
        ("fori_loop", "while"): "[2]",
    }
)
"""What a caller gets of what a loop's body returns, by the function that is called and the loop."""


def _assigned_names(tape: Tape) -> tuple[list[tuple[int, str]], dict[int, int]]:
    """The names that the source gives to results; the outermost call has the last word."""
    named: list[tuple[int, str]] = []
    owners: dict[int, int] = {}
    for evaluation in evaluations([(step.name, step.stack) for step in tape.operations]):
        last = tape.operations[evaluation.last]
        names = dict(_result_names(evaluation, last))
        if not names:
            continue
        turn = "".join(f"[{k}]" for k in last.turn)
        named += [(place, name + turn) for place, name in names.items() if name != "_"]
        for operation in tape.operations[evaluation.first : evaluation.last]:
            for place in operation.results:
                owners[place] = owners.get(place, next(iter(names)))
    return named, owners


def _result_names(evaluation: Evaluation, last: Operation) -> Iterator[tuple[int, str]]:
    """What an assignment calls the results of its last operation, `_` for what is left."""
    paths = _result_paths(last) if evaluation.is_direct else None
    if paths is None:
        targets = list(evaluation.targets.items())
        if len(targets) == len(last.results):
            yield from zip(last.results, evaluation.targets.values(), strict=True)
        return
    for place, path in zip(last.results, paths, strict=True):
        for start, name in evaluation.targets.items():
            if path is not None and path.startswith(start):
                yield place, name if name == "_" else name + path.removeprefix(start)


def _result_paths(operation: Operation) -> list[str | None] | None:
    """Of a loop's results where they stand in what its caller gets; `None` for what he does not.

    The body returns the same pytree: a scan's carry and its `y`.
    """
    calls = [(function, operation.primitive) for function in operation.stack.library]
    called = next((call for call in calls if call in RETURNED), None)
    if called is None:
        return None
    parameters, returned = operation.parameters, f"result{RETURNED[called]}"
    body = parameters.get("jaxpr") or parameters.get("body_jaxpr") or parameters["branches"][0]
    paths = body.jaxpr.debug_info.result_paths  # None after vmap
    return paths and [
        path.removeprefix(returned) if path.startswith(returned) else None for path in paths
    ]

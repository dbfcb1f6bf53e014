"""What the values of a computation are called: as the user calls them, where the source says it."""

import inspect
import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from funcnet import notation
from funcnet.nodes import is_number
from funcnet.source import evaluations
from funcnet.tape import Operation, Tape


def argument_names(
    function: Callable[..., Any], args: tuple, kwargs: Mapping[str, Any]
) -> list[str]:
    """`w1`, `params.weight`, `layers[0].bias`: what each array is called in the function.

    >>> argument_names(lambda w, *x: w, ({"b": 1.0}, 2.0, 3.0), {"y": 4.0})
    ["w['b']", 'x[0]', 'x[1]', 'y']
    """
    paths, _ = jax.tree_util.tree_flatten_with_path((args, kwargs))
    parameters = _positional_names(function, len(args))
    names = []
    for (kind, key, *rest), _ in paths:
        parameter = parameters[key.idx] if kind.idx == 0 else key.key
        names.append(parameter + jax.tree_util.keystr(tuple(rest)))
    return names


def _positional_names(function: Callable[..., Any], count: int) -> list[str]:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a builtin tells no signature
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = next((p.name for p in parameters if p.kind == p.VAR_POSITIONAL), "args")
    return [*names, *(f"{rest}[{i}]" for i in range(max(count - len(names), 0)))]


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
    """

    tape: Tape
    of: Mapping[int, str]
    owners: Mapping[int, int]

    def text(self, place: int) -> str:
        """The name of a value; of a number of the source the number."""
        value = self.tape.values[place]
        return notation.number(value) if place in self.tape.literals else self.of[place]

    def number(self, place: int) -> str:
        """The number of a value that is one; else the name."""
        value = self.tape.values[place]
        return notation.operand(value) if is_number(value) else self.text(place)

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
    named, owners = _assigned_names(tape)
    for place, name in zip(tape.inputs, input_names, strict=True):
        named[place] = name
    if len(tape.outputs) == 1:
        named = {tape.outputs[0]: output_name} | named
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
    steps = {place: owner for place, owner in owners.items() if place not in named}
    return Names(tape=tape, of=names, owners=steps)


def _assigned_names(tape: Tape) -> tuple[dict[int, str], dict[int, int]]:
    """The names that the source gives to results; the outermost call has the last word."""
    named: dict[int, str] = {}
    owners: dict[int, int] = {}
    for evaluation in evaluations([(step.name, step.stack) for step in tape.operations]):
        last = tape.operations[evaluation.last]
        if len(evaluation.targets) != len(last.results):
            continue
        turn = "".join(f"[{k}]" for k in last.turn)
        for target, place in zip(evaluation.targets, last.results, strict=True):
            if target != "_":
                named[place] = target + turn
        for operation in tape.operations[evaluation.first : evaluation.last]:
            for place in operation.results:
                owners[place] = owners.get(place, last.results[0])
    return named, owners

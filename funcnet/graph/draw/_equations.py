"""One step of the walk as an equation, with symbols and with numbers, in MathML.

Forward `d = v1 + v2 = 15 + 40 = 55`, backward the incoming adjoint times the local derivative,
`∂L/∂w1 = ∂L/∂b · ∂b/∂w1 = (−3)(5) = −15`, a sum over the uses. Every name is escaped.
"""

from collections.abc import Iterable
from html import escape

from funcnet.graph._nodes import Computation, Edge, Node
from funcnet.graph._notation import factor, fraction, summary

MAX_TERMS = 4  # terms of a sum that are written; the rest is an ellipsis
SEAM = "\0"  # stands in a formula where the fraction goes; no name has it


def forward(node: Node) -> str:
    sides = [node.name, node.expression, node.numbers, summary(node.value)]
    return _equation(_text(side) for side in dict.fromkeys(sides))


def backward(graph: Computation, node: Node) -> str:
    """Return how an adjoint was computed, from the adjoints of the nodes that use it."""
    uses = graph.uses.get(node.index, ())[::-1]  # the backward pass goes up; a sum is read down
    sides = [_fraction(graph.objective, node.name)]
    if uses:
        rest = ["…"] * (len(uses) > MAX_TERMS) + ["ȳ"] * (node.index in graph.cotangents)
        ends, shown = list(map(_text, rest)), uses[:MAX_TERMS]
        sides.append(_sum([*(_symbols(graph, use) for use in shown), *ends]))
        sides.append(_sum([*(_numbers(graph, use) for use in shown), *ends]))
        if len(uses) > 1 and not ends and all(use.is_number for use in uses):
            sides.append(_sum(_text(factor(use.contribution)) for use in uses))
    return _equation([*sides, _text(summary(node.adjoint))])


def _sum(terms: Iterable[str]) -> str:
    return "<mo>+</mo>".join(terms)


def _symbols(graph: Computation, use: Edge) -> str:
    parent, child = graph.nodes[use.parent].name, graph.nodes[use.child].name
    return f"{_fraction(graph.objective, parent)}<mo>·</mo>{_fraction(parent, child)}"


def _numbers(graph: Computation, use: Edge) -> str:
    """Return `(−3)(5)`; for arrays, what becomes of the incoming adjoint."""
    parent = graph.nodes[use.parent]
    if use.is_number:
        return _text(factor(parent.adjoint) + factor(use.local_derivative))
    incoming = _fraction(graph.objective, parent.name)
    before, *after = use.symbols(ȳ=SEAM).split(SEAM)
    if not after:
        return f"{incoming}<mo>⊙</mo>{_text(f'({before})')}"
    whole = f"<mo>(</mo>{incoming}<mo>)</mo>" if after[0].startswith("ᵀ") else incoming
    return f"{_part(before)}{whole}{_part(after[0])}"


def _fraction(of: str, by: str) -> str:
    return f"<mfrac>{''.join(map(_text, fraction(of, by)))}</mfrac>"


def _part(formula: str) -> str:
    """Return the text beside a fraction; MathML would drop the space between."""
    return _text(formula.replace(" ", "\N{NO-BREAK SPACE}")) if formula else ""


def _text(content: str) -> str:
    return f'<mi mathvariant="normal">{escape(content)}</mi>'


def _equation(sides: Iterable[str]) -> str:
    """Return an element per side, so that a long equation is broken before a sign of equality."""
    first, *others = sides
    parts = [first, *(f'<mo form="infix">=</mo>{side}' for side in others)]
    return "".join(f'<math display="block"><mrow>{part}</mrow></math>' for part in parts)

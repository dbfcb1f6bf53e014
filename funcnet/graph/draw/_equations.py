"""One step of the walk as an equation, with symbols and with numbers, in MathML.

Forward `d = v1 + v2 = 15 + 40 = 55`, backward the incoming adjoint times the local derivative,
`∂L/∂w1 = ∂L/∂b · ∂b/∂w1 = (−3)(5) = −15`, a sum over the uses where there are several. Every name
is escaped: a variable is never markup.
"""

import html
from collections.abc import Iterable

from funcnet.graph import _notation as notation
from funcnet.graph._graph import Graph
from funcnet.graph._nodes import Edge, Node

MAX_TERMS = 4
"""Of a longer sum the first terms are written, and that there are more."""


def forward(graph: Graph, node: Node) -> str:
    """How a value was computed.

    >>> import re
    >>> from funcnet.graph._graph import trace
    >>> graph = trace(lambda x: 10 - x)(55.0)
    >>> re.sub("<.*?>", "", forward(graph, graph.output))
    'output=10 − x=10 − 55=−45'
    """
    sides = [node.name, node.expression, node.numbers, notation.summary(node.value)]
    return _equation(_text(side) for side in dict.fromkeys(sides))


def backward(graph: Graph, node: Node) -> str:
    """How an adjoint was computed, from the adjoints of the nodes that use it.

    >>> import re
    >>> from funcnet.graph._graph import trace
    >>> graph = trace(lambda x: x * 3)(2.0)
    >>> re.sub("<.*?>", "", backward(graph, graph["x"]))
    '∂output∂x=∂output∂output·∂output∂x=(1)(3)=3'
    """
    uses = graph.uses.get(node.index, ())[::-1]  # the sweep goes back; a sum is read forward
    own = graph.cotangents.get(node.index)
    sides = [_fraction(graph.objective, node.name)]
    if uses:
        first = uses[:MAX_TERMS]
        ends = ["…"] * (len(uses) > len(first)) + ["ȳ"] * (own is not None)
        end = [_text(end) for end in ends]
        sides.append(_sum([*(_symbols(graph, use) for use in first), *end]))
        sides.append(_sum([*(_numbers(graph, use) for use in first), *end]))
        if len(uses) > 1 and not ends and all(map(_is_number, uses)):
            sides.append(_sum(_text(notation.factor(use.contribution)) for use in uses))
    return _equation([*sides, _text(notation.summary(node.adjoint))])


def _symbols(graph: Graph, use: Edge) -> str:
    """`∂L/∂b · ∂b/∂w1`."""
    parent, child = graph.nodes[use.parent].name, graph.nodes[use.child].name
    return f"{_fraction(graph.objective, parent)}<mo>·</mo>{_fraction(parent, child)}"


def _numbers(graph: Graph, use: Edge) -> str:
    """`(−3)(5)`; where they are no numbers, what becomes of the incoming adjoint."""
    parent = graph.nodes[use.parent]
    if _is_number(use):
        return _text(notation.factor(parent.adjoint) + notation.factor(use.local_derivative))
    incoming = _fraction(graph.objective, parent.name)
    before, ȳ, after = use.formula.partition("ȳ")
    if ȳ:
        whole = f"<mo>(</mo>{incoming}<mo>)</mo>" if after.startswith("ᵀ") else incoming
        return f"{_part(before)}{whole}{_part(after)}"
    return f"{incoming}<mo>⊙</mo>{_text(f'({use.formula})')}"


def _is_number(use: Edge) -> bool:
    """Whether both factors, the incoming adjoint and the local derivative, are numbers."""
    return not isinstance(use.local_derivative, str) and use.local_derivative.shape == ()


def _sum(terms: Iterable[str]) -> str:
    return "<mo>+</mo>".join(terms)


def _fraction(of: str, by: str) -> str:
    above, below = notation.derivative(of, by).rsplit("/", 1)
    return f"<mfrac>{_text(above)}{_text(below)}</mfrac>"


def _part(formula: str) -> str:
    """What stands beside a fraction; MathML would drop the space between."""
    return _text(formula.replace(" ", "\N{NO-BREAK SPACE}")) if formula else ""


def _text(content: str) -> str:
    return f'<mi mathvariant="normal">{html.escape(content)}</mi>'


def _equation(sides: Iterable[str]) -> str:
    """An element for each side, so that a long equation is broken before a sign of equality."""
    first, *others = sides
    parts = [first, *(f'<mo form="infix">=</mo>{side}' for side in others)]
    return "".join(f'<math display="block"><mrow>{part}</mrow></math>' for part in parts)

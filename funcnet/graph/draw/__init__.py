"""The graph of a computation as text, DOT, SVG, JSON, or one offline HTML page.

1. `_text` writes a table, and the language of Graphviz.
2. `_layout` places the nodes in layers from left to right, and `_svg` draws them there.
3. `_equations` writes every step of the walk, forward and backward, with symbols and numbers.
4. `_page` puts the drawing, the equations and the numbers into `page.html`, with its style and its
   script: one file that opens from disk.
"""

from funcnet.graph.draw._page import frame, html, page, record
from funcnet.graph.draw._svg import svg
from funcnet.graph.draw._text import dot, text

__all__ = ["dot", "frame", "html", "page", "record", "svg", "text"]

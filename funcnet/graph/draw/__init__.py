"""A graph as text, DOT, SVG, or one offline HTML page."""

from funcnet.graph.draw._render import dot, frame, html, page, record, svg, text

__all__ = ["dot", "frame", "html", "page", "record", "svg", "text"]

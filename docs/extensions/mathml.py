"""Equations as MathML, which browsers render without a script, a font or the network.

The converter is that of docutils. Sphinx selects the renderer by its name.
"""

from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.errors import ExtensionError


def setup(app: Any) -> dict[str, Any]:
    """Register the renderer ``mathml``."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def visit_inline(writer: Any, node: nodes.math) -> None:
    """Write an equation within a line."""
    writer.body.append(as_mathml(node.astext(), as_block=False))
    raise nodes.SkipNode


def visit_display(writer: Any, node: nodes.math_block) -> None:
    """Write an equation as a block that scrolls if it is too wide."""
    equation = as_mathml(node.astext(), as_block=True)
    writer.body.append(f'<div class="equation">{equation}</div>\n')
    raise nodes.SkipNode


def as_mathml(source: str, *, as_block: bool) -> str:
    """MathML of LaTeX.

    Raises:
        ExtensionError: naming the equation that cannot be converted.
    """
    try:
        converted: str = tex2mathml(source.strip(), as_block=as_block)
    except MathError as error:
        raise ExtensionError(f"this equation cannot be converted: {error}\n{source}") from error
    return converted

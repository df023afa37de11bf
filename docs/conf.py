"""Configuration of Sphinx for these pages. ``make docs`` and a test build them with warnings as errors.

The build fetches nothing: fonts and styles are part of the theme, and equations are converted to MathML.
"""

import builtins
import inspect
import pkgutil
import shutil
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "extensions"), str(HERE.parent)]

from api_pages import write_reference
from docutils import nodes
from pydantic import BaseModel
from sphinx.addnodes import pending_xref
from sphinx.util.nodes import find_pending_xref_condition

import offline_gcrl
from offline_gcrl import __version__
from offline_gcrl.support.imports import pause_collection, resume_collection

pause_collection()  # The imports below create millions of objects, which would be searched again and again.

write_reference("offline_gcrl", offline_gcrl.__path__, HERE / "api")

# Imported before autodoc does it with TYPE_CHECKING set, which MLflow does not support.
for module in pkgutil.walk_packages(offline_gcrl.__path__, "offline_gcrl."):
    if not module.name.endswith("__main__"):
        import_module(module.name)
resume_collection()

# Sphinx reads only files in its folder and does not follow links out of it.
shutil.rmtree(HERE / "notebooks", ignore_errors=True)
(HERE / "notebooks").mkdir()
for notebook in (HERE.parent / "notebooks").glob("*.ipynb"):
    shutil.copy2(notebook, HERE / "notebooks")

project = "offline-gcrl"
author = "the offline-gcrl authors"
copyright = author
version = release = __version__
language = "en"  # the catalogue of en_GB lacks plurals, which ends the search with an error

extensions = [
    "myst_nb",  # pages in Markdown, and the notebooks with their committed outputs
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "mathml",
    "settings_tables",
    "batch_fields",
    "agent_files",
    "short_analysis",
]
exclude_patterns = ["README.md"]
html_theme = "furo"
html_title = "offline-gcrl"
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False
html_show_search_summary = (
    False  # summaries are fetched, which browsers do not allow in pages opened from files
)
html_static_path = ["static"]
html_css_files = ["pages.css"]
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#0072B2",
        "color-brand-content": "#0072B2",
        "color-brand-visited": "#0072B2",
        "font-stack--monospace": "ui-monospace, SFMono-Regular, Menlo, 'DejaVu Sans Mono', monospace",
    },
    "dark_css_variables": {
        "color-brand-primary": "#56B4E9",
        "color-brand-content": "#56B4E9",
        "color-brand-visited": "#56B4E9",
    },
}
pygments_style = "friendly"
pygments_dark_style = "monokai"

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # `make notebooks` executes them against a real run

copybutton_prompt_text = "$ "  # of console blocks, the commands are copied and not their output
copybutton_line_continuation_character = "\\"
copybutton_selector = (
    "div:is(.highlight-python, .highlight-console, .highlight-yaml, .highlight-diff) pre"
)

toc_object_entries = False  # modules are headings; their hundreds of functions would hide them in the table of contents
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_use_type_comments = False  # there are none, and the search for them takes time
autodoc_default_options = {"members": True}


def setup(app: Any) -> None:
    """Connect the functions below to the events of autodoc."""
    app.connect("autodoc-process-docstring", keep_first_line, priority=400)  # before napoleon
    app.connect("autodoc-process-docstring", escape_bars)
    app.connect("autodoc-process-signature", drop_signature)
    app.connect("autodoc-skip-member", skip_field)
    app.connect("doctree-read", write_other_types)


def keep_first_line(
    app: Any, what: str, name: str, item: Any, options: Any, lines: list[str]
) -> None:
    """Put an empty comment before the docstring of an attribute: napoleon reads the words before a colon as a type.

    It does so in the first line only.
    """
    if what in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]


def escape_bars(app: Any, what: str, name: str, item: Any, options: Any, lines: list[str]) -> None:
    """Escape the bars of |x| in docstrings, which reStructuredText reads as a substitution."""
    lines[:] = [line.replace("|", "\\|") for line in lines]


def drop_signature(
    app: Any, what: str, name: str, item: Any, options: Any, signature: str, returns: str
) -> tuple[str, str] | None:
    """Leave out the constructors of settings: the page Settings lists their fields."""
    return ("", "") if isinstance(item, type) and issubclass(item, BaseModel) else None


def skip_field(app: Any, what: str, name: str, item: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the fields of settings, and functions of other packages behind decorators."""
    if inspect.isfunction(item) and not str(item.__module__).startswith("offline_gcrl"):
        return True
    place = app.env.current_document
    owner = getattr(import_module(place.autodoc_module), place.autodoc_class or "_", None)
    if what == "class" and isinstance(owner, type) and issubclass(owner, BaseModel):
        return name in owner.model_fields or name.startswith("model_") or skip
    return None


def write_other_types(app: Any, doctree: nodes.document) -> None:
    """Write types of Python and of other packages as text: Sphinx would look for each among all names of these pages."""
    for reference in list(doctree.findall(pending_xref)):
        target = reference["reftarget"]
        other = "." in target and not target.startswith("offline_gcrl")
        if reference.get("reftype") in ("class", "obj") and (other or hasattr(builtins, target)):
            text = find_pending_xref_condition(reference, "*")
            reference.replace_self(text.children if text else reference.children)

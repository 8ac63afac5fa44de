"""How Sphinx makes the site: ``sphinx-build -W docs docs/_build``."""

from importlib.metadata import version as installed_version

project = "aioblobcache"
author = "The aioblobcache authors"
project_copyright = "The aioblobcache authors"
version = release = installed_version("aioblobcache")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3

# A name in a docstring that leads nowhere is an error, but for those of other projects and private type variables.
nitpicky = True
_OTHERS = "aiohttp|collections|contextlib|datetime|enum|fastapi|obstore|opentelemetry|prometheus_client|redis|starlette"
nitpick_ignore_regex = [
    (r"py:.*", rf"({_OTHERS}|types|typing|typing_extensions)\..*"),
    (r"py:class", r"(.*\.)?_[A-Z]\w*"),
]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_display_short_literal_types = True
python_maximum_signature_line_length = 100

html_theme = "furo"
html_title = "aioblobcache"
html_show_sourcelink = False
html_copy_source = False


def show_public_bases(app, name, obj, options, bases):
    """A base class that is private is shown by its own bases."""
    bases[:] = [public for base in bases for public in (base.__bases__ if base.__name__.startswith("_") else (base,))]


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-process-bases", show_public_bases)

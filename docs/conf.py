"""Configuration of the documentation; see CONTRIBUTING.md for the command that builds it."""

import os
import re
from pathlib import Path

from sphinx_gallery.sorting import ExplicitOrder

import skcsflow

project = "skcsflow"
author = "The skcsflow developers"
project_copyright = "2026, The skcsflow developers"
release = version = skcsflow.__version__.split("+")[0]  # without the commit

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
# Links into the documentation of others need the network, by which their lists of names come, and builds must do
# without: SKCSFLOW_DOCS_LINKS=1 asks for them.
if os.environ.get("SKCSFLOW_DOCS_LINKS"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
    }
root_doc = "index"
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]
default_role = "code"  # `X` in a docstring is the parameter X
smartquotes = False  # default="auto" is code

# The reference: one generated page per public name, with the methods that this package defines. What classes
# inherit from scikit-learn, torch or Python is described there.
autosummary_generate = True
autodoc_default_options = {
    "members": True,
    "inherited-members": "TransformerMixin, OutlierMixin, BaseEstimator, BaseCrossValidator, Module, tuple, str, Enum",
    "member-order": "bysource",
    # scikit-learn writes these methods, and refers to its own pages in them.
    "exclude-members": "set_split_request, set_output, get_metadata_routing",
}
autodoc_typehints = "none"  # the docstrings say more
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# The gallery runs every examples/plot_*.py. Build with -D plot_gallery=0 to leave them unrun.
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"[/\\]plot_",
    "ignore_pattern": r"(__init__|onnx_inference)\.py",  # the latter is in the page on export
    "within_subsection_order": ExplicitOrder(
        [  # from the first steps on
            "plot_folder.py",
            "plot_solar_cells.py",
            "plot_inspection.py",
            "plot_threshold.py",
            "plot_grid_search.py",
            "plot_defect_kinds.py",
            "plot_many_products.py",
            "plot_serve_and_export.py",
            "plot_from_anomalib.py",
        ]
    ),
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_signature": False,
    "write_computation_times": False,
}

html_theme = "pydata_sphinx_theme"
html_title = f"skcsflow {release}"
html_static_path = ["_static"]
html_css_files = ["phone.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "skcsflow"},  # with its version, it would push the search off a phone's screen
    "header_links_before_dropdown": 8,
    "navbar_persistent": ["search-button"],
    "show_prev_next": True,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["version"],
}
html_sidebars = {"index": [], "faq": []}  # pages with nothing below them


def read_changelog(app, docname, source):
    """Let the page of changes hold CHANGELOG.md, whose headings and links read differently in rst."""
    if docname != "changelog":
        return
    path = Path(__file__).parents[1] / "CHANGELOG.md"
    app.env.note_dependency(path)
    text = re.sub(r"\[([^]]+)\]\((\S+?)\)", r"`\1 <\2>`__", path.read_text(encoding="utf-8"))
    source[0] = re.sub(
        r"(?m)^(#+) (.+)$", lambda found: f"{found[2]}\n{'=-~'[len(found[1]) - 1] * len(found[2])}", text
    )


def setup(app):
    """Is called by Sphinx."""
    app.connect("source-read", read_changelog)

"""Sphinx configuration: ``sphinx-build -W docs docs/_build``."""

from __future__ import annotations

import fisherstats

project = "fisherstats"
author = "fisherstats developers"
copyright = "2026, fisherstats developers"
release = version = fisherstats.__version__

extensions = ["myst_nb", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx-mathjax-offline"]
exclude_patterns = ["_build", "jupyter_execute"]
templates_path = ["_templates"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
numpydoc_show_class_members = False
autodoc_typehints = "none"

html_theme = "furo"
html_title = f"fisherstats {version}"

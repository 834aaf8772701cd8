"""Sphinx's settings for the documentation; `build.py` gathers the pages beside a copy of this file."""

from nisf import __version__

project = "nisf"
author = "The nisf authors"
project_copyright = "the nisf authors, Apache-2.0"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]
suppress_warnings = ["misc.highlighting_failure"]
exclude_patterns = ["_build"]
default_role = "code"

autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"nisf {version}"
html_static_path = ["static"]
html_css_files = ["nisf.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#30638e", "color-brand-content": "#30638e"},
    "dark_css_variables": {"color-brand-primary": "#8ab6d6", "color-brand-content": "#8ab6d6"},
    "footer_icons": [],
}

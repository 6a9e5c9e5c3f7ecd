"""How the site is built; see ``tools/build_docs.py``."""

import nemo_run

project = "NeMo-Run"
release = version = nemo_run.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
smartquotes = False
html_theme = "furo"
html_title = f"nemo_run {release}"
html_static_path = []
html_show_sphinx = html_copy_source = html_show_sourcelink = False
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]
copybutton_exclude = ".linenos, .gp, .go"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
autodoc_typehints = "none"  # signatures have them
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_use_ivar = True
python_use_unqualified_type_names = True
templates_path = ["templates"]
_OWN_PARTS = ("brand", "search", "scroll-start", "navigation", "scroll-end", "variant-selector")  # furo's
html_sidebars = {"**": [*(f"sidebar/{name}.html" for name in _OWN_PARTS), "versions.html"]}
suppress_warnings = ["ref.python"]  # a name that is public in two places

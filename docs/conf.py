"""How Sphinx builds the pages: ``make docs``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import tnlayer  # noqa: E402
from docs.pages_from_code.write import write_all  # noqa: E402

project = "tnlayer"
author = "the tnlayer authors"
release = version = tnlayer.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "pages_from_code"]
html_theme = "furo"
html_title = f"tnlayer {release}"
html_copy_source = False
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["tnlayer.css"]
# Measurements are printed by programs, whose tables have headings of their own level.
suppress_warnings = ["myst.header"]

# Every cell is run at each build, so that no output is older than the code.
nb_execution_mode = "force"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_in_temp = True
# What takes longer than a second says so on stderr: that depends on the machine.
nb_output_stderr = "remove"
nb_merge_streams = True
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

# Diagrams in docstrings are no Python.
highlight_language = "none"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

# Plans and kernels of the pages, beside the pages: the user's own cache stays as it is.
os.environ.setdefault("TNLAYER_CACHE_DIR", str(HERE / "_build" / "cache"))
# The pages' own package, for what the notebooks take from examples/.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
)


def setup(app: Sphinx) -> None:
    """Pages that come from the code are written before Sphinx looks for sources."""
    app.connect("builder-inited", lambda app: write_all(Path(app.srcdir) / "generated"))

"""How Sphinx makes the documentation: ``make docs``."""

from __future__ import annotations

from swarmgate import __version__

project = "swarmgate"
release = version = __version__
html_title = f"swarmgate {__version__}"
html_theme = "alabaster"
html_theme_options = {
    "description": "One front door for a Docker Swarm",
    "fixed_sidebar": True,
    "page_width": "1100px",
    "body_max_width": "none",
}
html_show_copyright = False
html_show_sourcelink = False
# Code blocks without a language are labels, rules and log lines: nothing that a lexer knows.
highlight_language = "none"
exclude_patterns = ["_build"]
nitpicky = True

# SPDX-License-Identifier: Apache-2.0
"""One HTML file from a template, with its style and scripts in it.

What a page shows may come from anybody: texts are escaped, and the page's own policy lets it load
nothing and run no script but those that were put into it here.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parent / "templates"


def render_page(
    template: str,
    values: Mapping[str, Any],
    *,
    folder: Path | None = None,
    styles: Sequence[str] = (),
    scripts: Sequence[str] = (),
    allow: Mapping[str, str] | None = None,
) -> str:
    """Return a page as HTML.

    Args:
        template: a file that begins with `{% extends "page.html" %}`. An undefined name in it is an
            error.
        values: what it shows; texts are escaped.
        folder: where it, its styles and its scripts are; those of this package are found too.
        styles, scripts: names of CSS and JavaScript files beyond those that every page has.
        allow: directives of the Content-Security-Policy, by name, that take the place of the page's
            own or are added; for a page that talks to its server.

    Raises:
        jinja2.TemplateError: the template is wrong.
    """
    import jinja2  # only now: commands that write no page start without it
    from markupsafe import Markup

    folders = [*([folder] if folder else []), TEMPLATES]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def own(name: str) -> str:
        path = next(place / name for place in folders if (place / name).is_file())
        return path.read_text(encoding="utf-8").strip()

    theme, *codes = (own(name) for name in ("theme.js", "tables.js", *scripts))
    return environment.get_template(template).render(
        values,
        policy=_policy([theme, *codes], allow or {}),
        styles=[Markup(own(name)) for name in ("page.css", *styles)],
        theme_script=Markup(theme),
        scripts=[Markup(code) for code in codes],
    )


def _policy(scripts: Sequence[str], allow: Mapping[str, str]) -> str:
    """The Content-Security-Policy: nothing is loaded, and only these scripts run."""
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    sources = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    directives = {
        "default-src": "'none'",
        "script-src": sources,
        "style-src": "'unsafe-inline'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in {**directives, **allow}.items())

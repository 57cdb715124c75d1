"""Pages that are safe to open: scripts and styles of ours, data that is never markup, nothing from outside."""

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from distillkit.base.files import canonical_json


def asset(name: str, package: str = "distillkit.report") -> Markup:
    """A script, style or template that comes with a sub-package, as it stands."""
    return Markup((files(package) / name).read_text(encoding="utf-8"))


def policy(scripts: Sequence[str], styles: Sequence[str], images: str = "data:", more: str = "") -> str:
    """A content security policy: these very scripts and styles, images from ``images``, and nothing else at all."""
    parts = [
        "default-src 'none'",
        f"script-src {' '.join(map(digest, scripts))}" if scripts else "script-src 'none'",
        f"style-src {' '.join(map(digest, styles))}",
        f"img-src {images}",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return "; ".join([*parts, more] if more else parts)


def digest(text: str) -> str:
    """How a policy names an inline script or style."""
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def data_block(value: Any) -> Markup:
    """JSON to stand in a <script type="application/json">, which nothing in it can end."""
    text = canonical_json(value)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)


def template(name: str, package: str = "distillkit.report") -> Template:
    """A page; whatever is put into it is escaped."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(str(asset(name, package)))

"""HTML pages that are safe to open: only our scripts and styles, data never as markup, nothing from outside."""

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from distillkit.base.files import canonical_json


def asset(name: str, package: str = "distillkit.report") -> Markup:
    """The unchanged text of a script, style or template in a sub-package."""
    return Markup((files(package) / name).read_text(encoding="utf-8"))


def policy(scripts: Sequence[str], styles: Sequence[str], images: str = "data:", more: str = "") -> str:
    """A content security policy that allows only these scripts and styles, and images from ``images``."""
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
    """The hash by which a policy allows an inline script or style."""
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def data_block(value: Any) -> Markup:
    """JSON for a <script type="application/json">, escaped so that no value can end the script."""
    text = canonical_json(value)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)


def data_url(data: bytes, kind: str) -> Markup:
    """A picture as an address that holds all of it."""
    return Markup(f"data:image/{kind};base64," + b64encode(data).decode())  # nothing in it needs an escape


def template(name: str, package: str = "distillkit.report") -> Template:
    """A page template; it escapes all values."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(str(asset(name, package)))

"""Licences in the Hub's and SPDX's identifiers, and whether they allow a derived set to be published."""

import re
from collections.abc import Mapping
from typing import Any

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from distillkit.base.errors import ParamsError
from distillkit.base.names import hint

# The Hub's identifiers, https://huggingface.co/docs/hub/repositories-licenses
LICENCES = """
afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0
cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0
cdla-sharing-1.0 ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 gfdl gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr
lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 osl-3.0 pddl postgresql unknown unlicense wtfpl zlib
"""
OTHER_NAMES = {  # the Hub's identifiers that differ from SPDX's
    "c-uda": "C-UDA-1.0",
    "lgpl-lr": "LGPLLR",
    "odbl": "ODbL-1.0",
    "odc-by": "ODC-By-1.0",
    "pddl": "PDDL-1.0",
}
FAMILIES = ("bsd", "gfdl", "gpl", "lgpl")  # the Hub's names of families whose licences all allow derived works
WEB = re.compile(r"https?://[^\s<>\"]+")  # links have no other scheme
IDENTIFIER = re.compile(r"[A-Za-z]+(-[A-Za-z0-9.]+)+")


def licence(source: Mapping[str, Any]) -> dict[str, Any]:
    """The recorded licence as the Hub's ``license`` and, without an identifier, ``license_name`` and
    ``license_link``.
    """
    text, homepage = source["licence"].strip(), source.get("homepage", "")
    homepage = homepage if WEB.fullmatch(homepage) else ""
    known = [licence_identifier(part) for part in text.split(", ")]
    if not text:
        return {"license": "unknown"}
    if None not in known:
        return {"license": known[0] if len(known) == 1 else known}
    address = re.search(r"https?://[^\s,;<>()]+", text)
    words = re.findall(r"[a-z0-9.]+", (text.replace(address[0], " ") if address else text).lower())
    name = "-".join(words[:8]).strip(".-")
    found = {"license_name": "" if name == "other" else name, "license_link": address[0] if address else homepage}
    return {"license": "other"} | {key: value for key, value in found.items() if value}


def licence_identifier(text: str) -> str | None:
    """The Hub's identifier for a licence in free text, such as "CC BY 4.0" or "MIT License"; None without one."""
    words = re.findall(r"[a-z0-9.]+", text.lower())
    candidates = ("-".join(words), "-".join(word for word in words if word not in ("the", "license", "licence")))
    return next((candidate for candidate in candidates if candidate in LICENCES.split()), None)


def spdx(text: str) -> str | None:
    """The SPDX expression for one licence, in SPDX's spelling; None without one."""
    identifier = licence_identifier(text) or text
    try:
        return str(canonicalize_license_expression(OTHER_NAMES.get(identifier, identifier)))
    except InvalidLicenseExpression:
        return None


def check_licence(name: str, text: str | None) -> None:
    """Raise ParamsError for a misspelt identifier. Any text that does not look like one is accepted."""
    for part in (text or "").split(", "):
        meant = hint(part.lower(), LICENCES.split())
        if IDENTIFIER.fullmatch(part) and meant and spdx(part) is None:
            expected = "expected one of https://spdx.org/licenses, or the licence's name in words"
            raise ParamsError(f"{name} is {text!r}, which is no SPDX identifier{meant}; {expected}")


def licence_of_imported(record: Mapping[str, Any]) -> str:
    """The licence of an imported recipe's images; "unknown" if not recorded; empty for other methods."""
    if record["method"] != "imported":
        return ""
    notes = record.get("notes")
    told = notes.get("imported") if isinstance(notes, Mapping) else None
    found = told.get("licence") if isinstance(told, Mapping) else None
    return found.strip() or "unknown" if isinstance(found, str) else "unknown"


def obstacle(text: str, whose: str = "the source") -> str | None:
    """The reason why a set derived from images under this licence should not be published without a check; None without
    one.
    """
    if text.strip() in ("", "unknown"):
        return f"no licence of {whose} is recorded"
    for part in text.strip().split(", "):
        identifier, known = licence_identifier(part), spdx(part)
        if known is not None and "-ND-" in known:
            return f"the licence of {whose}, {known}, forbids derived works"
        if (known is None or known.startswith("LicenseRef-")) and identifier not in FAMILIES:
            return f"the licence of {whose}, {part!r}, has no known SPDX identifier"
    return None

"""Licences as people write them: the Hub's identifiers, SPDX's, and whether they let a derived set be published."""

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
OTHER_NAMES = {  # of the Hub for what SPDX calls otherwise
    "c-uda": "C-UDA-1.0",
    "lgpl-lr": "LGPLLR",
    "odbl": "ODbL-1.0",
    "odc-by": "ODC-By-1.0",
    "pddl": "PDDL-1.0",
}
FAMILIES = ("bsd", "gfdl", "gpl", "lgpl")  # of the Hub: several licences, each of which allows derived works
WEB = re.compile(r"https?://[^\s<>\"]+")  # no other scheme is ever a link
IDENTIFIER = re.compile(r"[A-Za-z]+(-[A-Za-z0-9.]+)+")


def licence(source: Mapping[str, Any]) -> dict[str, Any]:
    """The recorded licence as the Hub's ``license`` and, where it has no identifier, ``license_name`` and ``_link``."""
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
    """The Hub's identifier for a licence as people write it, such as "CC BY 4.0" or "MIT License"; None without one."""
    words = re.findall(r"[a-z0-9.]+", text.lower())
    candidates = ("-".join(words), "-".join(word for word in words if word not in ("the", "license", "licence")))
    return next((candidate for candidate in candidates if candidate in LICENCES.split()), None)


def spdx(text: str) -> str | None:
    """The SPDX expression that one licence stands for, as SPDX spells it; None where there is none."""
    identifier = licence_identifier(text) or text
    try:
        return str(canonicalize_license_expression(OTHER_NAMES.get(identifier, identifier)))
    except InvalidLicenseExpression:
        return None


def check_licence(name: str, text: str | None) -> None:
    """Raise ParamsError for what was meant as an identifier and is none; a licence in other words may be anything."""
    for part in (text or "").split(", "):
        meant = hint(part.lower(), LICENCES.split())
        if IDENTIFIER.fullmatch(part) and meant and spdx(part) is None:
            expected = "expected one of https://spdx.org/licenses, or the licence's name in words"
            raise ParamsError(f"{name} is {text!r}, which is no SPDX identifier{meant}; {expected}")


def licence_of_imported(record: Mapping[str, Any]) -> str:
    """Under which licence a recipe's images were imported; "unknown" where that is not recorded, nothing for others."""
    if record["method"] != "imported":
        return ""
    notes = record.get("notes")
    told = notes.get("imported") if isinstance(notes, Mapping) else None
    found = told.get("licence") if isinstance(told, Mapping) else None
    return found.strip() or "unknown" if isinstance(found, str) else "unknown"


def obstacle(text: str, whose: str = "the source") -> str | None:
    """Why a set derived from images under this licence may not be published as things are; None if nothing says so."""
    if text.strip() in ("", "unknown"):
        return f"no licence of {whose} is recorded"
    for part in text.strip().split(", "):
        identifier, known = licence_identifier(part), spdx(part)
        if known is not None and "-ND-" in known:
            return f"the licence of {whose}, {known}, forbids derived works"
        if (known is None or known.startswith("LicenseRef-")) and identifier not in FAMILIES:
            return f"the licence of {whose}, {part!r}, is none that is known by an SPDX identifier"
    return None

"""What mkdocs.yml does not say: pages that lie outside docs/, as hooks of MkDocs.

README, CONTRIBUTING and CHANGELOG are pages; so is every module of the package, and every file or folder of the
repository that a page links to. Links stay as GitHub reads them and are rewritten when the site is built.
"""

import json
import os
import posixpath
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DOCS, PACKAGE = ROOT / "docs", ROOT / "distillkit"
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
PICTURES = (".png", ".svg")
LINK = re.compile(r"(?<=\]\()[^)\s#:]+")  # the path of a link in the repository: no address, no anchor
ROLE = re.compile(r":\w+:`~?([\w.]+)`")  # :func:`name`


def on_config(config: MkDocsConfig) -> None:
    config.nav.append({"API reference": nav(PACKAGE)})


def on_files(files: Files, config: MkDocsConfig) -> None:
    for name in PAGES:
        files.append(File.generated(config, uri_of(ROOT / name), abs_src_path=str(ROOT / name)))
    for path in modules(PACKAGE):
        files.append(File.generated(config, uri_of(path), content=f"::: {module_name(path)}\n"))
    for path in sorted(DOCS.glob("*.ipynb")):
        files.remove(files.src_uris[path.name])
        files.append(File.generated(config, uri_of(path), content=notebook_page(path)))
    linked = {target for page in files.documentation_pages() for target in links(page)}
    for path in sorted(linked | {part for target in linked if target.is_dir() for part in target.iterdir()}):
        if files.get_file_from_path(uri_of(path)) is None:
            shown = {"abs_src_path": str(path)} if path.suffix in PICTURES else {"content": text_page(path)}
            files.append(File.generated(config, uri_of(path), inclusion=InclusionLevel.NOT_IN_NAV, **shown))


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Links to files of the repository, as links to the pages that show them."""
    here = posixpath.dirname(page.file.src_uri)

    def moved(link: re.Match[str]) -> str:
        target = target_of(page.file, link[0])
        return posixpath.relpath(uri_of(target), here) if target else link[0]

    return LINK.sub(moved, markdown)


def links(page: File) -> Iterator[Path]:
    """The files and folders of the repository, outside docs/, that a page links to."""
    for link in LINK.findall(page.content_string):
        target = target_of(page, link)
        if target and not target.is_relative_to(DOCS):
            yield target


def target_of(page: File, link: str) -> Path | None:
    """What a link of a page means in the repository; None where nothing is, and for pages that are made here."""
    if page.abs_src_path is None:
        return None
    target = Path(os.path.normpath(Path(page.abs_src_path).parent / link))
    return target if target.exists() and target.is_relative_to(ROOT) else None


def uri_of(path: Path) -> str:
    """Where the site has a file or folder of the repository."""
    name = path.relative_to(ROOT).as_posix()
    if path.is_relative_to(DOCS):
        shown = path.with_suffix(".md") if path.suffix == ".ipynb" else path
        return shown.relative_to(DOCS).as_posix()
    if path.is_relative_to(PACKAGE) and path.suffix == ".py":
        return f"reference/{name.removesuffix('.py')}.md".replace("__init__.md", "index.md")
    if path.is_dir():
        return f"{name}/index.md"
    return PAGES.get(name, name if path.suffix in PICTURES else f"{name}.md")


def text_page(path: Path) -> str:
    """A file's text, or a folder's list of files."""
    title = f"# {path.relative_to(ROOT).as_posix()}\n\n"
    if path.is_dir():
        names = sorted(part.name for part in path.iterdir())
        return title + "".join(f"- [{name}]({posixpath.basename(uri_of(path / name))})\n" for name in names)
    return f"{title}~~~~~~ {path.suffix[1:]}\n{path.read_text(encoding='utf-8')}~~~~~~\n"


def notebook_page(path: Path) -> str:
    """A notebook's text, code and what it showed."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {"text/plain": output.get("text", "")})
            html, text = ("".join(data.get(kind, "")) for kind in ("text/html", "text/plain"))
            parts.append(html or f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def modules(folder: Path) -> Iterator[Path]:
    """The modules of a package and of the packages in it."""
    yield from (path for path in sorted(folder.rglob("*.py")) if path.stem != "__main__")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if path.stem == "__init__" else parts)


def nav(folder: Path) -> list[str | dict[str, Any]]:
    """The pages of a package: its own first, then those of its modules and packages."""
    own, *rest = (path for path in modules(folder) if path.parent == folder)
    inner = [*rest, *(path for path in folder.iterdir() if (path / "__init__.py").is_file())]
    entries = {path.stem: nav(path) if path.is_dir() else uri_of(path) for path in inner}
    return [uri_of(own), *({name: entries[name]} for name in sorted(entries))]


class Roles(griffe.Extension):
    """``:func:`name``` in docstrings, as a link to what it names; one that names nothing stops the build."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        for thing in things(pkg):
            if thing.docstring:
                linked = partial(reference, thing)
                thing.docstring.value = ROLE.sub(linked, thing.docstring.value)


def things(parent: griffe.Object) -> Iterator[griffe.Object]:
    """What a module or class defines, and what that defines; not what it imports."""
    yield parent
    for member in parent.members.values():
        if isinstance(member, griffe.Object):
            yield from things(member)


def reference(thing: griffe.Object, role: re.Match[str]) -> str:
    name = role[1]
    try:
        path = name if name.startswith("distillkit.") else thing.resolve(name)
    except griffe.NameResolutionError:
        path = name
    return f"[`{name}`][{path}]"

"""The code that a stage can run: its script and the files of distillkit that it imports, directly or indirectly.

Stages depend on a list of these files, not on folders, so that an edit runs only the stages that it can affect. An edit
of comments and docstrings runs none.
"""

import ast
import hashlib
import tokenize
from collections.abc import Iterator
from functools import cache
from io import StringIO
from pathlib import Path

from distillkit.base.errors import ArtifactError
from distillkit.base.files import sha256

PACKAGE = Path(__file__).parents[1]
NO_RESULT = {"process"} | {f"pipeline/{name}.py" for name in ("__init__", "checks", "code", "stage")}


def listing(script: Path) -> str:
    """A line for each of :func:`files_of`: checksum, and path relative to the package or the pipeline's folder."""
    roots = {path: script.parents[1] if path == script else PACKAGE.parent for path in files_of(script)}
    return "".join(f"{checksum(path)}  {path.relative_to(root).as_posix()}\n" for path, root in roots.items())


def checksum(path: Path) -> str:
    """The SHA-256 of a file; of a module, that of :func:`statements`."""
    if path.suffix != ".py":
        return sha256(path)
    return hashlib.sha256(statements(path.read_text(encoding="utf-8")).encode()).hexdigest()


@cache  # most stages can run the same modules
def statements(source: str) -> str:
    """Python source without comments, blank lines, docstrings and other strings that stand alone."""
    lines = source.split("\n")
    tokens = list(tokenize.generate_tokens(StringIO(source).readline))
    blank = [token.start[0] for token in tokens if token.type == tokenize.NL]  # or the end of a line in brackets
    for row, column in (token.start for token in tokens if token.type == tokenize.COMMENT):
        lines[row - 1] = lines[row - 1][:column].rstrip()
    left_out = {row for row in blank if not lines[row - 1].strip()}
    tokens = [token for token in tokens if token.type not in (tokenize.COMMENT, tokenize.NL)]
    starts = (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    for before, token, after in zip([None, *tokens], tokens, tokens[1:], strict=False):
        alone = after.type == tokenize.NEWLINE and (before is None or before.type in starts)
        if token.type == tokenize.STRING and alone:
            left_out |= {*range(token.start[0], token.end[0] + 1)}
    return "\n".join(line for number, line in enumerate(lines, 1) if number not in left_out)


def files_of(script: Path) -> list[Path]:
    """The script, the modules that it can import, and other files in their folders (templates), sorted."""
    found: set[Path] = set()
    waiting = set(imported(script))
    while waiting:
        path = waiting.pop()
        if path not in found and not changes_nothing(path):
            found.add(path)
            waiting |= imported(path)
    beside = {file for folder in {path.parent for path in found} for file in folder.iterdir() if file.is_file()}
    return [script, *sorted(found | {file for file in beside if file.suffix not in (".py", ".pyc")})]


def changes_nothing(path: Path) -> bool:
    """Whether a module cannot affect any result."""
    inside = path.relative_to(PACKAGE)
    return inside.as_posix() in NO_RESULT or inside.parts[0] in NO_RESULT


@cache
def imported(path: Path) -> frozenset[Path]:
    """Files of the package that ``path`` imports anywhere in its code, with the ``__init__`` of their folders."""
    return frozenset(file for name in names_imported(path) for file in modules_on_the_way(name))


def names_imported(path: Path) -> Iterator[str]:
    """Modules that ``path`` imports, and the names imported from them, which can be modules too."""
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError as error:
        raise ArtifactError(f"{path.name}, line {error.lineno}: {error.msg}; expected Python; correct it") from None
    for node in statements_in(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def statements_in(tree: ast.AST) -> Iterator[ast.AST]:
    """All statements, also of functions and classes. Expressions, most of a tree, are not visited: none imports."""
    for field in ("body", "handlers", "orelse", "finalbody", "cases"):
        for child in getattr(tree, field, ()):
            yield child
            yield from statements_in(child)


def modules_on_the_way(name: str) -> Iterator[Path]:
    """``base/__init__.py`` and ``base/files.py`` for ``distillkit.base.files.sha256``; nothing for other packages."""
    first, *parts = name.split(".")
    for count in range(1, len(parts) + 1) if first == "distillkit" else ():
        path = PACKAGE.joinpath(*parts[:count])
        yield from (file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file())

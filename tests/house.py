"""The house rules as functions from source to faults; `test_house.py` runs them over the tree and over planted faults.

Owns what can be read off the syntax tree. Refuses to import what it checks: a fault must be found in a file that would
not even load.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
FEATURES = range(1, 58)
UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX)\b")  # in two pieces, so that this file is not one

CORE = ("stream.stages", "stream.joining", "stream.windows", "detectors", "learners")
"""Where nothing but the log may decide."""

IMPURE = {
    "time", "random", "secrets", "uuid", "os", "io", "socket", "subprocess", "threading", "multiprocessing", "asyncio",
    "concurrent", "tempfile", "pathlib", "shutil", "sys", "locale", "platform", "http", "urllib", "requests", "aiohttp",
    "kafka", "aiokafka", "faust", "mode", "prometheus_client", "click", "rich", "logging",
}  # fmt: skip
"""Modules through which a clock, chance, files, the network or the machine come in."""

CLOCK_METHODS = {"now", "utcnow", "today"}
SEEDED = {"default_rng", "Generator", "Philox", "PCG64", "SeedSequence", "SFC64", "MT19937"}
UNSAFE_LOADERS = {
    "pickle": {"load", "loads", "Unpickler"},
    "cloudpickle": {"load", "loads"},
    "dill": {"load", "loads"},
    "joblib": {"load"},
    "marshal": {"load", "loads"},
    "shelve": {"open"},
}
MAY_UNPICKLE = ("learners/state.py", "detectors/river.py")
MAY_ASK_IDENTITY = ("learners/digest.py",)
"""Numbers objects by where it first meets them, as pickle does; the identities themselves go nowhere."""
SET_METHODS = {"union", "intersection", "difference", "symmetric_difference"}
ORDERED_BY = {"list", "tuple", "enumerate", "iter", "map", "filter", "zip", "reversed", "next", "fromkeys", "join"}
"""Calls whose result takes over the order of what they are given."""


class Source(NamedTuple):
    """One Python file: its path from the root, its text and its syntax tree."""

    path: str
    text: str
    tree: ast.Module

    @property
    def module(self) -> str:
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def in_core(self) -> bool:
        return any(self.module == room or self.module.startswith(room + ".") for room in CORE)


def source(path: str, text: str) -> Source:
    return Source(path, text, ast.parse(text))


def sources(*roots: str) -> list[Source]:
    """All Python files under these directories or files of the project, in the order of their paths."""
    files = [p for root in roots for p in ([ROOT / root] if root.endswith(".py") else (ROOT / root).rglob("*.py"))]
    return [source(p.relative_to(ROOT).as_posix(), p.read_text(encoding="utf-8")) for p in sorted(files)]


def rooms(architecture: str) -> list[str]:
    """The rooms of ARCHITECTURE.md's table, top first, as module names; `stream` stands for the files right in it."""
    names = re.findall(r"^\| `([\w/*.]+)` \|", architecture, re.MULTILINE)
    return [name.removesuffix("/*.py").replace("/", ".") for name in names]


def room_of(module: str, known: list[str]) -> str | None:
    """The innermost room that a module stands in."""
    inside = [room for room in known if module == room or module.startswith(room + ".")]
    return max(inside, key=len, default=None)


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            yield from ((node.lineno, f"{module}.{name.name}" if module else name.name) for name in node.names)


def imports_upward(file: Source, known: list[str]) -> Iterator[str]:
    """Imports go down the table of rooms only; detectors and learners import nothing of stream."""
    own = room_of(file.module, known)
    for line, name in imports(file.tree):
        other = room_of(name, known)
        if own is None or other is None or own == other:
            continue
        upward = known.index(other) < known.index(own)
        if upward or (other, own) == ("learners", "detectors"):  # each useful alone
            yield f"{file.path}:{line}: {own} imports {name}, which is above it"


def impurities(file: Source) -> Iterator[str]:
    """Clocks, chance, files and the machine in the core."""
    if not file.in_core:
        return
    for line, name in imports(file.tree):
        if name.split(".")[0] in IMPURE and not _is_allowed(file, name):
            yield f"{file.path}:{line}: the core imports {name}"
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Call):
            fault = _impure_call(node)
            if fault and not (fault == "id()" and file.path in MAY_ASK_IDENTITY):
                yield f"{file.path}:{node.lineno}: the core calls {fault}"


def _is_allowed(file: Source, name: str) -> bool:
    """Unpicklers read from a buffer in memory."""
    return file.path in MAY_UNPICKLE and name in ("io", "io.BytesIO")


def _impure_call(call: ast.Call) -> str | None:
    name = ast.unparse(call.func)
    last = name.rsplit(".", 1)[-1]
    if name in ("open", "input", "print", "hash", "id", "exec", "eval", "__import__"):
        return f"{name}()"
    if last in CLOCK_METHODS and "." in name and re.search(r"\b(date|datetime)\b", name):
        return f"{name}(), a clock"
    if re.search(r"\b(np|numpy)\.random\.", name) or last in SEEDED:
        if last not in SEEDED:
            return f"{name}(), the global generator"
        if not call.args and not call.keywords:
            return f"{name}() without a seed"
    return None


def set_orders(file: Source) -> Iterator[str]:
    """Places where the order of a set decides something, as far as the syntax shows it."""
    if not file.in_core and file.module.count(".") != 1:  # stream/*.py too, but not the runtimes and surfaces
        return
    for scope, named in _scopes_with_sets(file.tree):
        for node in _own_nodes(scope):
            for taken in _ordered_from(node):
                if _is_set(taken, named):
                    yield f"{file.path}:{taken.lineno}: takes the order of a set: {ast.unparse(taken)}"


def _scopes_with_sets(tree: ast.Module) -> Iterator[tuple[ast.AST, set[str]]]:
    """Each scope with the names (and `self.x`) that hold sets in it."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    fields = _set_names(ast.walk(tree), fields=True)
    shared = _set_names(tree.body, fields=False) | fields
    yield tree, shared
    for function in functions:
        arguments = [*function.args.args, *function.args.kwonlyargs, *function.args.posonlyargs]
        named = {a.arg for a in arguments if a.annotation and _is_set_type(a.annotation)}
        yield function, shared | named | _set_names(_own_nodes(function), fields=False)


def _set_names(nodes: Iterable[ast.AST], fields: bool) -> set[str]:
    named: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.AnnAssign) and _is_set_type(node.annotation):
            target = ast.unparse(node.target)
            named |= {target, f"self.{target}"} if fields else {target}
        elif isinstance(node, ast.Assign) and _is_set(node.value, named):
            named |= {t for t in map(ast.unparse, node.targets) if fields == t.startswith("self.")}
    return {name for name in named if fields == name.startswith("self.")}


def _is_set_type(annotation: ast.expr) -> bool:
    return bool(re.match(r"(set|frozenset|Set|AbstractSet)\b", ast.unparse(annotation)))


def _own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a scope without those of functions within it."""
    for child in ast.iter_child_nodes(scope):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
            yield from _own_nodes(child)
        elif isinstance(scope, ast.ClassDef):
            yield from child.decorator_list


def _ordered_from(node: ast.AST) -> list[ast.expr]:
    """What this node takes the order of."""
    if isinstance(node, ast.For | ast.AsyncFor):
        return [node.iter]
    if isinstance(node, ast.ListComp | ast.DictComp):
        return [generator.iter for generator in node.generators]
    if isinstance(node, ast.Starred):
        return [node.value]
    if isinstance(node, ast.Call) and ast.unparse(node.func).rsplit(".", 1)[-1] in ORDERED_BY:
        return list(node.args)
    return []


def _is_set(node: ast.expr, named: set[str]) -> bool:
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    if isinstance(node, ast.Name | ast.Attribute):
        return ast.unparse(node) in named
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr | ast.BitAnd | ast.Sub | ast.BitXor):
        return any(_is_set(side, named) or _is_view(side) for side in (node.left, node.right))
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute) and node.func.attr in SET_METHODS:
            return _is_set(node.func.value, named)
        return ast.unparse(node.func) in ("set", "frozenset")
    return False


def _is_view(node: ast.expr) -> bool:
    """Keys and items of a dict become a set when they are combined."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("keys", "items")


def too_long(file: Source) -> Iterator[str]:
    lines = file.text.count("\n") + 1
    if lines >= FILE_LINES_MAX:
        yield f"{file.path}: {lines} lines; split it before {FILE_LINES_MAX}"
    for node in ast.walk(file.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            if size >= FUNCTION_LINES_MAX:
                yield f"{file.path}:{node.lineno}: {node.name} has {size} lines; less than {FUNCTION_LINES_MAX}"


def undocumented(file: Source) -> Iterator[str]:
    if file.text.strip() and ast.get_docstring(file.tree) is None:
        yield f"{file.path}: no docstring says what it owns and refuses to know"


def unfinished(path: str, text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        if UNFINISHED.search(line):
            yield f"{path}:{number}: unfinished: {line.strip()}"


def unsafe_loads(file: Source) -> Iterator[str]:
    """Bytes that become code are opened in two places only."""
    if file.path in MAY_UNPICKLE:
        return
    names = {f"{module}.{name}" for module, loaders in UNSAFE_LOADERS.items() for name in loaders}
    for line, name in imports(file.tree):
        if name in names:
            yield f"{file.path}:{line}: imports {name}"
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in names:
            yield f"{file.path}:{node.lineno}: uses {ast.unparse(node)}"


def unknown_features(path: str, text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        for feature in re.findall(r"\bF(\d\d)\b", line):
            if int(feature) not in FEATURES:
                yield f"{path}:{number}: no feature F{feature}"


def dependencies(pyproject: str) -> list[str]:
    """Names of all dependencies, extras included, the project's own apart."""
    project = tomllib.loads(pyproject)["project"]
    wanted = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    names = [re.split(r"[\[<>=!~;\s]", entry, maxsplit=1)[0] for entry in wanted]
    return [name for name in names if name != project["name"]]


def unexplained_dependencies(pyproject: str, readme: str) -> Iterator[str]:
    """Each dependency has a row, or a part of one, in a table of the README that says why."""
    first_cells = [line.split("|")[1].lower() for line in readme.splitlines() if line.startswith("|")]
    for name in dependencies(pyproject):
        if not any(re.search(rf"(?<![\w-]){re.escape(name.lower())}(?![\w-])", cell) for cell in first_cells):
            yield f"README.md: no table row explains the dependency {name}"

"""Reads the imports between the modules of the package, and draws them for docs/architecture.md.

They are read from the source. Nothing is imported, so that a module that cannot run here is read as well.
"""

import ast
import pathlib
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parent.parent / "ucl_jax"
# Modules that only give a folder's command another name, `ucl`, which imports the command that is asked for, and its
# completion, which reads the table of commands.
COMMANDS = ("__main__", "completion", "convert", "probe", "report", "train")


def modules() -> dict[str, pathlib.Path]:
    """Returns the file of each module, by its dotted name without the prefix; the package itself is "ucl_jax"."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts) or "ucl_jax"] = path
    return found


MODULES = modules()


def parse(module: str) -> ast.Module:
    """Returns the syntax tree of a module."""
    return ast.parse(MODULES[module].read_text())


def imported(tree: ast.AST) -> Iterator[str]:
    """Yields the dotted names that a module imports anywhere in it; `from a import b` gives a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def project_modules(tree: ast.AST) -> Iterator[str]:
    """Yields the modules of this package that a module imports, without the prefix."""
    for name in imported(tree):
        if name.split(".")[0] != "ucl_jax":
            continue
        inner = name.removeprefix("ucl_jax").lstrip(".")
        while inner and inner not in MODULES:  # an attribute of a module
            inner = inner.rpartition(".")[0]
        yield inner or "ucl_jax"


def folder(module: str) -> str:
    """Returns the folder of a module, such as "models/"; a module beside the folders is its own, "augment.py"."""
    head, dot, _ = module.partition(".")
    return f"{head}/" if dot or MODULES[head].name == "__init__.py" else f"{head}.py"


def arrows() -> dict[str, set[str]]:
    """Returns, for each folder and each module beside the folders, the others that it imports."""
    found: dict[str, set[str]] = {}
    for module in MODULES:
        if module != "ucl_jax" and module not in COMMANDS:
            ours = found.setdefault(folder(module), set())
            ours |= {folder(other) for other in project_modules(parse(module)) if other != "ucl_jax"} - {folder(module)}
    return found


def reduced(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Returns a graph without the arrows that others imply: where a imports b and b needs c, that from a to c."""

    def needed(node):
        return graph[node].union(*map(needed, graph[node]))

    return {node: {one for one in to if one not in set().union(*map(needed, to))} for node, to in graph.items()}


def picture() -> str:
    """Returns the folders and their arrows as a Mermaid graph, which GitHub and MkDocs draw."""
    graph = reduced(arrows())
    names = {node: node.strip("/").replace(".", "_") for node in graph}
    lines = [f'    {names[node]}["{node}"]' for node in sorted(graph)]
    lines += [f"    {names[node]} --> {names[other]}" for node in sorted(graph) for other in sorted(graph[node])]
    return "\n".join(["```mermaid", "graph TD", *lines, "```"])

"""Rules that the tests themselves keep."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parent
MODULES = sorted(TESTS.rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in MODULES}

LONGEST_NAME_WORDS = 12

# Public in spite of their underscore: of named tuples and of the operating system.
PUBLIC_UNDERSCORES = {"_replace", "_asdict", "_fields", "_exit"}


def is_test_module(path):
    return path.name.startswith("test_")


def imported_modules(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def name(path):
    return path.relative_to(TESTS).as_posix()


def test_no_module_imports_a_test_module():
    found = {(name(path), module) for path, tree in TREES.items() for module in imported_modules(tree)}
    assert {(path, module) for path, module in found if module.rpartition(".")[2].startswith("test_")} == set()


def private_accesses(tree):
    """Attributes with a leading underscore of anything but the object itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            is_own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            is_inherited = isinstance(node.value, ast.Call) and getattr(node.value.func, "id", "") == "super"
            if not is_own and not is_inherited and node.attr not in PUBLIC_UNDERSCORES:
                yield f"line {node.lineno}: {ast.unparse(node)}"


def test_private_state_is_reached_by_internals_alone():
    found = {name(path): list(private_accesses(tree)) for path, tree in TREES.items()}
    del found["support/internals.py"]
    assert {path: accesses for path, accesses in found.items() if accesses} == {}


def test_names_of_tests_are_short_sentences():
    long = [
        node.name
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and node.name.count("_") > LONGEST_NAME_WORDS
    ]
    assert long == []


def test_every_package_of_tests_is_importable():
    folders = {path.parent for path in MODULES if is_test_module(path)}
    assert all((folder / "__init__.py").is_file() for folder in folders)

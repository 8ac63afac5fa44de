"""The mutants of a Python file.

Not mutated: docstrings, annotations, type aliases, ``__all__``, ``__slots__``, ``__repr__``, Protocols, overloads,
``if TYPE_CHECKING``, calls of loggers, and the texts of messages. A mutant that is equal to the original or to another
mutant by construction is left out: ``if a == b`` is negated by its operator, ``return False`` is not made
``return None``, and an attribute that ``__init__`` does not set fails whatever the test.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.mutation.mutant import Mutant, SourceFile

__all__ = ["python_mutants"]

_COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: (r"is\s+not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: (r"not\s+in", "in"),
}
_NEGATED_BY_OPERATOR = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)
_ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "//"),
    ast.FloorDiv: ("//", "*"),
    ast.Div: ("/", "*"),
    ast.Mod: ("%", "//"),
}
_LOGGERS = {"_log", "log", "logger", "logging", "warnings"}
_NAMES_WITHOUT_BEHAVIOUR = {"__all__", "__slots__"}
_FUNCTIONS_WITHOUT_BEHAVIOUR = {"__repr__", "__str__"}
_QUOTE = re.compile(rb"""[a-zA-Z]*(\"""|'''|"|')""")

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def python_mutants(source: SourceFile) -> list[Mutant]:
    """Return all mutants of the file, in the order of their positions."""
    tree = ast.parse(source.text)
    finder = _Finder(source, tree)
    finder.visit(tree)
    return sorted(finder.found, key=lambda mutant: (mutant.start, mutant.end))


def _compiles(text: bytes) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            compile(text, "mutant", "exec", dont_inherit=True)
    except (SyntaxError, SyntaxWarning):
        return False
    return True


class _Finder(ast.NodeVisitor):
    def __init__(self, source: SourceFile, tree: ast.Module) -> None:
        self.found: list[Mutant] = []
        self._source = source
        self._append = source.mutants_adder(self.found, _compiles)
        self._scopes: list[str] = []
        self._functions = 0
        self._statement: ast.stmt | None = None
        self._in_message = False
        # Where each name is read, and where what is visited now is used, if it runs at import.
        self._reads: dict[str, list[int]] = defaultdict(list)
        self._uses: Sequence[int] = ()
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                self._reads[node.id].append(node.lineno)

    # --- positions -------------------------------------------------------------------------------

    def _start(self, node: ast.expr | ast.stmt) -> int:
        return self._source.offset(node.lineno, node.col_offset)

    def _end(self, node: ast.expr | ast.stmt) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._source.offset(node.end_lineno, node.end_col_offset)

    def _add(self, operator: str, start: int, end: int, replacement: str | bytes) -> None:
        at_import = self._functions == 0
        lines = self._uses if at_import or self._statement is None else (self._statement.lineno,)
        text = replacement.encode() if isinstance(replacement, str) else replacement
        scope = ".".join(self._scopes)
        self._append(operator, start, end, text, scope=scope, lines=lines, at_import=at_import)

    def _replace(self, operator: str, node: ast.expr | ast.stmt, replacement: str) -> None:
        self._add(operator, self._start(node), self._end(node), replacement)

    def _replace_between(self, name: str, left: ast.expr, right: ast.expr, change: tuple[str, str]) -> None:
        """Replace the operator between two operands, which has no position of its own."""
        pattern, replacement = change
        escaped = pattern if pattern[0].isalpha() else re.escape(pattern)
        start = self._end(left)
        match = re.search(escaped.encode(), self._source.text[start : self._start(right)])
        assert match is not None
        self._add(name, start + match.start(), start + match.end(), replacement)

    def _insert_into_string(self, node: ast.expr) -> None:
        start = self._start(node)
        match = _QUOTE.match(self._source.text, start)
        assert match is not None
        self._add("string", match.end(), match.end(), "XX")

    # --- scopes and what is left out -------------------------------------------------------------

    def visit(self, node: ast.AST) -> None:
        outer = self._statement
        if isinstance(node, ast.stmt):
            self._statement = node
        super().visit(node)
        self._statement = outer

    def _visit_all(self, nodes: Sequence[ast.AST | None]) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)

    @contextmanager
    def _used_in(self, lines: Sequence[int]) -> Iterator[None]:
        outer, self._uses = self._uses, lines
        yield
        self._uses = outer

    @contextmanager
    def _message(self) -> Iterator[None]:
        outer, self._in_message = self._in_message, True
        yield
        self._in_message = outer

    def visit_FunctionDef(self, node: _Function) -> None:
        if any(_last_name(decorator) == "overload" for decorator in node.decorator_list):
            return
        self._visit_all(node.decorator_list)
        with self._used_in([statement.lineno for statement in node.body]):
            self._visit_all([*node.args.defaults, *node.args.kw_defaults])
        if node.name in _FUNCTIONS_WITHOUT_BEHAVIOUR:
            return
        self._scopes.append(node.name)
        self._functions += 1
        self._visit_all(node.body)
        self._functions -= 1
        self._scopes.pop()

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._functions += 1
        self.visit(node.body)
        self._functions -= 1

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        if any(_last_name(base) == "Protocol" for base in node.bases):
            return
        self._visit_all([*node.decorator_list, *(keyword.value for keyword in node.keywords)])
        self._scopes.append(node.name)
        self._visit_all(node.body)
        self._scopes.pop()

    def visit_Assert(self, node: ast.Assert) -> None:
        """Leave out assertions."""

    # --- statements ------------------------------------------------------------------------------

    def _delete(self, operator: str, node: ast.stmt) -> None:
        self._replace(operator, node, "pass")

    def visit_Expr(self, node: ast.Expr) -> None:
        value = node.value.value if isinstance(node.value, ast.Await) else node.value
        if isinstance(node.value, ast.Constant) or (isinstance(value, ast.Call) and _is_log_call(value)):
            return
        if isinstance(value, ast.Call) or isinstance(node.value, ast.Await):
            self._delete("delete call", node)
        self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        names = [_last_name(target) for target in node.targets]
        if _NAMES_WITHOUT_BEHAVIOUR & set(names) or (
            isinstance(node.value, ast.Call) and _last_name(node.value.func) in {"TypeVar", "getLogger"}
        ):
            return
        self._delete_assignment(node, node.targets)
        with self._used_in(self._reads[names[0]]):
            self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if _last_name(node.annotation) == "TypeAlias" or node.value is None:
            return
        self._delete_assignment(node, [node.target])
        with self._used_in(self._reads[_last_name(node.target)]):
            self._visit_all([node.target, node.value])

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._delete_assignment(node, [node.target])
        if type(node.op) in _ARITHMETIC and not _is_text(node.value):
            operator, replacement = _ARITHMETIC[type(node.op)]
            self._replace_between("arithmetic", node.target, node.value, (operator, replacement))
        self._visit_all([node.target, node.value])

    def _delete_assignment(self, node: ast.stmt, targets: Sequence[ast.expr]) -> None:
        parts = [part for one in targets for part in (one.elts if isinstance(one, ast.Tuple) else [one])]
        made_in_init = self._scopes[-1:] == ["__init__"] and all(_is_attribute_of_self(part) for part in parts)
        if not made_in_init and all(isinstance(part, ast.Attribute | ast.Subscript) for part in parts):
            self._delete("delete assignment", node)

    def visit_Delete(self, node: ast.Delete) -> None:
        self._delete("delete del", node)
        self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        self._delete("delete raise", node)
        with self._message():
            self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        value = node.value
        if value is not None and not (isinstance(value, ast.Constant) and value.value in (None, False)):
            self._replace("return None", node, "return None")
        self.generic_visit(node)

    def visit_Break(self, node: ast.Break) -> None:
        self._replace("break", node, "continue")

    def visit_Continue(self, node: ast.Continue) -> None:
        self._replace("continue", node, "break")

    # --- conditions ------------------------------------------------------------------------------

    def _negate(self, test: ast.expr) -> None:
        if isinstance(test, ast.Constant) or (isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)):
            return
        if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], _NEGATED_BY_OPERATOR):
            return
        start, end = self._start(test), self._end(test)
        self._add("negate condition", start, end, b"not (" + self._source.text[start:end] + b")")

    def visit_If(self, node: ast.If) -> None:
        if _last_name(node.test) == "TYPE_CHECKING":
            self._visit_all(node.orelse)
            return
        self._negate(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self._negate(test)
        self.generic_visit(node)

    # --- expressions -----------------------------------------------------------------------------

    def visit_Compare(self, node: ast.Compare) -> None:
        for left, operator, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
            self._replace_between("comparison", left, right, _COMPARISONS[type(operator)])
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        change = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            self._replace_between("boolean", left, right, change)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            start = self._start(node)
            match = re.compile(rb"not\s*").match(self._source.text, start)
            assert match is not None
            self._add("remove not", start, match.end(), b"")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if type(node.op) in _ARITHMETIC and not _is_text(node.left) and not _is_text(node.right):
            self._replace_between("arithmetic", node.left, node.right, _ARITHMETIC[type(node.op)])
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if _last_name(node.func) == "cast":
            self._visit_all(node.args[1:])
        elif _is_log_call(node):
            return
        else:
            self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Change the whole text: before Python 3.12 its parts have no positions."""
        if not self._in_message:
            self._insert_into_string(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self._replace("boolean constant", node, str(not value))
        elif isinstance(value, int):
            self._replace("number", node, str(value + 1))
        elif isinstance(value, str | bytes) and not (self._in_message and len(value.split()) > 1):
            self._insert_into_string(node)


def _last_name(node: ast.expr) -> str:
    while isinstance(node, ast.Subscript | ast.Call):
        node = node.value if isinstance(node, ast.Subscript) else node.func
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _is_log_call(node: ast.Call) -> bool:
    function = node.func
    return isinstance(function, ast.Attribute) and _last_name(function.value) in _LOGGERS


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))


def _is_attribute_of_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"

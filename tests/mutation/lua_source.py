"""The mutants of a Lua script."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import attrs

from tests.mutation.mutant import Mutant, SourceFile

__all__ = ["lua_mutants"]

_Add = Callable[[str, int, int, bytes], None]

_TOKENS = re.compile(
    rb"""(?P<skipped>\s+|\A\#![^\n]*|--[^\n]*)
    |(?P<string>'[^'\n]*'|"[^"\n]*")
    |(?P<name>[A-Za-z_][\w.]*)
    |(?P<number>\d+)
    |(?P<sign>==|~=|<=|>=|\.\.|.)""",
    re.VERBOSE,
)
_SWAPPED = {
    b"==": (b"~=", "comparison"),
    b"~=": (b"==", "comparison"),
    b"<": (b"<=", "comparison"),
    b"<=": (b"<", "comparison"),
    b">": (b">=", "comparison"),
    b">=": (b">", "comparison"),
    b"and": (b"or", "boolean"),
    b"or": (b"and", "boolean"),
    b"true": (b"false", "boolean constant"),
    b"false": (b"true", "boolean constant"),
    b"+": (b"-", "arithmetic"),
    b"-": (b"+", "arithmetic"),
    b"*": (b"+", "arithmetic"),
}
_ENDS_OF_RETURNED = {b"end", b"else", b"elseif"}


@attrs.frozen
class _Token:
    kind: str
    text: bytes
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


def lua_mutants(source: SourceFile) -> list[Mutant]:
    """Return all mutants of the file, in the order of their positions."""
    found: list[Mutant] = []
    # The server loads a script when it is first called, and Python reads it when the package is imported.
    append = source.mutants_adder(found, lambda _: True)
    tokens = [
        _Token(match.lastgroup or "", match[0], match.start())
        for match in _TOKENS.finditer(source.text)
        if match.lastgroup != "skipped"
    ]

    def add(operator: str, start: int, end: int, replacement: bytes) -> None:
        append(operator, start, end, replacement, at_import=True)

    for index, token in enumerate(tokens):
        previous = tokens[index - 1].text if index else b""
        if token.text in _SWAPPED and token.kind != "string":
            replacement, operator = _SWAPPED[token.text]
            add(operator, token.start, token.end, replacement)
        elif token.text == b"not":
            add("remove not", token.start, tokens[index + 1].start, b"")
        elif token.text == b"if":
            _negate(source, tokens, index, add)
        elif token.text == b"return":
            _swap_returned(tokens, index, add)
        elif token.kind == "number" and previous != b"return":
            add("number", token.start, token.end, b"%d" % (int(token.text) + 1))
        elif token.kind == "string" and not _names_a_command(tokens, index):
            add("string", token.start + 1, token.start + 1, b"XX")
        elif token.kind == "name" and _is_call_statement(source, tokens, index):
            add("delete call", token.start, _closing(tokens, index + 1).end, b"")
    return sorted(found, key=lambda mutant: (mutant.start, mutant.end))


def _negate(source: SourceFile, tokens: Sequence[_Token], index: int, add: _Add) -> None:
    end = next(place for place in range(index, len(tokens)) if tokens[place].text == b"then")
    condition = tokens[index + 1 : end]
    words = [token.text for token in condition]
    compound = b"and" in words or b"or" in words
    if compound or not (words[0] == b"not" or b"==" in words or b"~=" in words):
        start, stop = condition[0].start, condition[-1].end
        add("negate condition", start, stop, b"not (" + source.text[start:stop] + b")")


def _swap_returned(tokens: Sequence[_Token], index: int, add: _Add) -> None:
    start, end = index + 1, index + 1
    while end < len(tokens) and tokens[end].text not in _ENDS_OF_RETURNED:
        end += 1
    value = tokens[start:end]
    if value and value[0].text not in (b"true", b"false"):
        replacement = b"1" if value[0].text == b"0" else b"0"
        add("returned value", value[0].start, value[-1].end, replacement)


def _names_a_command(tokens: Sequence[_Token], index: int) -> bool:
    return index >= 2 and tokens[index - 2].text == b"redis.call"


def _is_call_statement(source: SourceFile, tokens: Sequence[_Token], index: int) -> bool:
    if index + 1 >= len(tokens) or tokens[index + 1].text != b"(":
        return False
    before = tokens[index - 1] if index else None
    if before is None or before.text in (b"then", b"do", b"else"):
        return True
    line_start = source.text.rfind(b"\n", 0, tokens[index].start) + 1
    return not source.text[line_start : tokens[index].start].strip()


def _closing(tokens: Sequence[_Token], index: int) -> _Token:
    depth = 0
    for token in tokens[index:]:
        depth += {b"(": 1, b")": -1}.get(token.text, 0)
        if depth == 0:
            return token
    raise AssertionError("a parenthesis is not closed")

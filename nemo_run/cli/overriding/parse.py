r"""Reads overrides such as ``model.layers[2].size*=2``. Pure: it looks at text, and evaluates and imports nothing.

::

    override = path operator value
    operator = "=" | "+=" | "-=" | "*=" | "/=" | "|=" | "&="
    path     = name { "." name | "[" ( integer | string ) "]" }

    value    = item, or any other text
    item     = string | list | tuple | braces | call | word
    list     = "[" [ item { "," item } [ "," ] ] "]"
    tuple    = "(" [ item "," [ item { "," item } [ "," ] ] ] ")" | "(" item ")"
    braces   = "{" [ item { "," item } [ "," ] ] "}"
             | "{" [ item ":" item { "," item ":" item } [ "," ] ] "}"
    call     = dotted "(" [ argument { "," argument } [ "," ] ] ")"
    argument = [ name "=" ] item
    dotted   = name { "." name }
    string   = [ "b" ] ( "'" { character } "'" | '"' { character } '"' ), with the escapes of Python
    word     = one or more characters but , [ ] ( ) { } and quotes; as a key, also no ":"

Spaces around any of these do not matter. What a word means depends on the type that is wanted where it stands:
``3`` is a number for an ``int`` and text for a ``str``. So every item keeps the text that it was read from.

A value that is no item is a word as a whole: ``path=a/b (old).txt`` is fine for a ``Path``. Where something else is
wanted, the message says why it is no item.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from nemo_run.cli.overriding.items import Call, Item, Pairs, Quoted, Several, Word
from nemo_run.errors import OverrideError

OPERATORS = ("=", "+=", "-=", "*=", "/=", "|=", "&=")

_KEY = r"""\[\s*(?:-?\d+|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\s*\]"""
_PATH = rf"[^\W\d]\w*(?:\.[^\W\d]\w*|{_KEY})*"
_OVERRIDE = re.compile(rf"\s*(?P<path>{_PATH})\s*(?P<operator>[-+*/|&]?=)(?P<value>.*)\Z", re.DOTALL)
_LOOKS_LIKE_ONE = re.compile(r"""\s*[\w.\-\[\]'"]+\s*\W?=""")

_SPACE = re.compile(r"\s*")
_DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_KEYWORD = re.compile(r"([^\W\d]\w*)\s*=(?!=)")
_WORD = re.compile(r"""[^,\[\](){}'"]+""")
_WORD_AS_KEY = re.compile(r"""[^,\[\](){}'":]+""")
_STRING = re.compile(r"""(b?)(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")""", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "\n": ""}
_DEEPEST = 50


@dataclass(frozen=True)
class Override:
    """One override.

    Attributes:
        path: The place, as it was typed.
        operator: One of :data:`OPERATORS`.
        value: What is to be put or applied there.
        source: The whole text.
    """

    path: str
    operator: str
    value: Item
    source: str


# ---------------------------------------------------------------- reading
def is_override(text: str) -> bool:
    """Check whether a text is meant as an override, rather than as the value of a positional argument.

    Example:
        >>> is_override("model.size=3"), is_override("1x%=3"), is_override("net(size=3)"), is_override("http://x?a=3")
        (True, True, False, False)
    """
    return bool(_LOOKS_LIKE_ONE.match(text) or _OVERRIDE.match(text))


def parse_override(text: str) -> Override:
    """Read an override.

    Example:
        >>> parse_override("a.b[2]+=f(x, n=3)")  # doctest: +NORMALIZE_WHITESPACE
        Override(path='a.b[2]', operator='+=',
            value=Call(source='f(x, n=3)', name='f', args=(Word(source='x', problem=''),),
            kwargs=(('n', Word(source='3', problem='')),)),
            source='a.b[2]+=f(x, n=3)')

    Raises:
        OverrideError: It is none.
    """
    found = _OVERRIDE.match(text)
    if not found:
        raise OverrideError(
            f"{text!r} is not an override; write one like model.size=3, layers[0].size*=2 or env['A B']=text "
            f"(the operators are {' '.join(OPERATORS)})"
        )
    return Override(found["path"], found["operator"], parse_value(found["value"]), text)


def parse_value(text: str) -> Item:
    """Read a value. There is no text that is none.

    Example:
        >>> parse_value("[1, x]").items
        (Word(source='1', problem=''), Word(source='x', problem=''))
        >>> parse_value("[1, x")
        Word(source='[1, x', problem="it ends where ',' or ']' is missing")
    """
    try:
        return _Parser(text).whole()
    except _NoItemError as reason:
        return Word(text.strip(), str(reason))


class _NoItemError(Exception):
    """The text is no item."""


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.depth = 0

    def whole(self) -> Item:
        if not self.text.strip():
            return Word("")
        item = self.item(_WORD)
        if self.position < len(self.text):
            self.fail("it goes on with")
        return item

    def fail(self, what: str) -> NoReturn:
        before, rest = self.text[: self.position], self.text[self.position :]
        raise _NoItemError(
            f"{what} {rest[:20]!r} after {before[-20:]!r}" if rest else f"it ends after {before[-20:]!r}"
        )

    def space(self) -> None:
        self.position = _SPACE.match(self.text, self.position).end()  # type: ignore[union-attr]  # it always matches

    def take(self, character: str) -> bool:
        """Go past a character, if it is the next."""
        if not self.text.startswith(character, self.position):
            return False
        self.position += 1
        self.space()
        return True

    def item(self, word: re.Pattern[str]) -> Item:
        self.space()
        start = self.position
        self.depth += 1
        if self.depth > _DEEPEST:
            raise _NoItemError(f"it is nested more than {_DEEPEST} deep")
        item = self.start(start, word)
        self.depth -= 1
        self.space()
        return item

    def start(self, start: int, word: re.Pattern[str]) -> Item:
        opening = self.text[start : start + 1]
        if opening in _BRACKETS:
            self.take(opening)
            return _BRACKETS[opening](self, start)
        if string := _STRING.match(self.text, start):
            return self.string(string)
        dotted = _DOTTED.match(self.text, start)
        if dotted and self.text.startswith("(", dotted.end()):
            self.position = dotted.end()
            self.take("(")
            return self.call(start, dotted[0])
        plain = word.match(self.text, start)
        if not plain:
            self.fail("it goes on with")
        self.position = plain.end()
        return Word(plain[0].strip())

    def until(self, closing: str, read: Callable[[], None]) -> bool:
        """Read things separated by commas up to a bracket; whether the last one was followed by a comma."""
        comma = False
        while not self.take(closing):
            read()
            comma = self.take(",")
            if not comma and not self.text.startswith(closing, self.position):
                if self.position >= len(self.text):
                    raise _NoItemError(f"it ends where ',' or {closing!r} is missing")
                self.fail("it goes on with")
        return comma

    def source(self, start: int) -> str:
        return self.text[start : self.position].strip()

    def read_list(self, start: int) -> Item:
        items: list[Item] = []
        self.until("]", lambda: items.append(self.item(_WORD)))
        return Several(self.source(start), "list", tuple(items))

    def read_tuple(self, start: int) -> Item:
        items: list[Item] = []
        comma = self.until(")", lambda: items.append(self.item(_WORD)))
        if len(items) == 1 and not comma:
            return items[0]
        return Several(self.source(start), "tuple", tuple(items))

    def read_braces(self, start: int) -> Item:
        keys: list[Item] = []
        values: list[Item] = []

        def entry() -> None:
            keys.append(self.item(_WORD_AS_KEY))
            if self.take(":"):
                values.append(self.item(_WORD))
            if len(values) not in (0, len(keys)) or (values and len(values) < len(keys)):
                raise _NoItemError("some of what is in braces has a ':', and some has none")

        self.until("}", entry)
        if keys and not values:
            return Several(self.source(start), "set", tuple(keys))
        return Pairs(self.source(start), tuple(zip(keys, values, strict=True)))

    def call(self, start: int, name: str) -> Item:
        args: list[Item] = []
        kwargs: dict[str, Item] = {}

        def argument() -> None:
            keyword = _KEYWORD.match(self.text, self.position)
            if keyword:
                if keyword[1] in kwargs:
                    raise _NoItemError(f"{keyword[1]!r} is given twice")
                self.position = keyword.end()
                kwargs[keyword[1]] = self.item(_WORD)
            elif kwargs:
                self.fail("an argument without a name cannot come after one with a name:")
            else:
                args.append(self.item(_WORD))

        self.until(")", argument)
        return Call(self.source(start), name, tuple(args), tuple(kwargs.items()))

    def string(self, found: re.Match[str]) -> Item:
        self.position = found.end()
        text = _ESCAPE.sub(_unescaped, found[2] if found[2] is not None else found[3])
        if not found[1]:
            return Quoted(found[0], text)
        try:
            return Quoted(found[0], text.encode("latin-1"))
        except UnicodeEncodeError:
            raise _NoItemError(f"{found[0]} has a character that is no byte") from None


_BRACKETS: dict[str, Callable[[_Parser, int], Item]] = {
    "[": _Parser.read_list,
    "(": _Parser.read_tuple,
    "{": _Parser.read_braces,
}


def _unescaped(found: re.Match[str]) -> str:
    code = found[1] or found[2] or found[3]
    if code is None:
        character = found[4]
        return _ESCAPED.get(character, character if character in "\\'\"" else found[0])
    number = int(code, 16)
    if number > 0x10FFFF:
        raise _NoItemError(f"{found[0]} is no character")
    return chr(number)

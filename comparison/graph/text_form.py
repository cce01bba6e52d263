"""Parse messages of Protocol Buffers in their text form, in time and memory linear in the text.

protobuf's own parser goes as deep as a text is nested, until Python's stack ends, and its time is
quadratic in a line with fields that it does not know. Here, as in protobuf's reading of the binary
form, a message may be nested DEEPEST deep.
"""

import functools
import re
from typing import Any, Dict, Optional

from google.protobuf import text_encoding
from google.protobuf.descriptor import FieldDescriptor

DEEPEST = 100
# What printers write has 14 bytes or more a value. FEW are always accepted.
BYTES_OF_VALUE, FEW = 12, 10**5
LONGEST_NUMBER = 64  # letters
NUMBER = re.compile(r"[-+.0-9]")
NOT_FITTING = (ValueError, TypeError, KeyError, OverflowError)
SHOWN = 30  # letters of what is not expected
# Each repeats one class of letters at a time: nothing is gone over twice.
TOKEN = re.compile(
    r"\s*(?:(?P<name>[A-Za-z_][\w.]*)|(?P<number>[-+]?[.0-9][\w.+-]*)|(?P<quote>[\"'])"
    r"|(?P<comment>#.*)|(?P<sign>[-{}<>\[\]:,;/])|(?P<end>\Z))"
)
# What printers write after the name of a field, up to the next name or closing brace.
USUAL = re.compile(
    r"(?::\s?(?:(?P<word>[-+]?[.0-9][\w.+-]*|[A-Za-z_][\w.]*)(?![\w.+-])|\"(?P<quoted>[^\"\\\n]*)\")"
    r"|\s?(?P<opening>\{))\s*(?:(?P<name>[A-Za-z_][\w.]*)|(?P<sign>\}))"
)
CLOSING = {"{": "}", "<": ">"}
TRUTHS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


class NotParsed(ValueError):
    """Where a text is not that of a message, in words."""


def parse(text: str, message: Any) -> None:
    """Set the fields of a message from its text form; NotParsed if it is none.

    What the message has no field for is left out.
    """
    parser = _Parser(text)
    while parser.kind != "end":
        parser.field(message, 1)


def first_name(text: str) -> Optional[str]:
    """Return the name of the first field of a text; None if it does not begin with one."""
    try:
        parser = _Parser(text)
        name, kind = parser.token, parser.kind
        parser.go_on()
        return name if kind == "name" and parser.token in (":", "{", "<") else None
    except NotParsed:
        return None


@functools.lru_cache(maxsize=None)
def _fields(descriptor) -> Dict[str, FieldDescriptor]:
    return {field.name: field for field in descriptor.fields}


class _Parser:
    """Goes over the tokens of a text; kind, token: of the one that is next, a group of TOKEN."""

    def __init__(self, text: str):
        self._text, self._end = text, 0
        self._values_left = max(len(text) // BYTES_OF_VALUE, FEW)
        self.kind, self.token = "", ""
        self.go_on()

    def go_on(self) -> str:
        """Go on to the next token, and return the one before it."""
        before = self.token
        while True:
            match = TOKEN.match(self._text, self._end)
            if match is None:
                self.token = self._text[self._end : self._end + 2 * SHOWN].strip()[:1]
                raise self.unexpected()
            kind = self.kind = str(match.lastgroup)
            self._start, self._end = match.span(kind)
            if kind != "comment":
                break
        if kind == "quote":
            self._end = self._end_of_quoted()
        self.token = self._text[self._start : self._end]
        return before

    def _end_of_quoted(self) -> int:
        """Return where a quoted text ends: at the next such sign after an even number of \\."""
        quote, place = self._text[self._start], self._start
        while True:
            place = self._text.find(quote, place + 1)
            if place < 0:
                self.token = quote
                raise self.unexpected()
            escapes = 0
            while self._text[place - 1 - escapes] == "\\":
                escapes += 1
            if escapes % 2 == 0:
                return place + 1

    def unexpected(self) -> NotParsed:
        """Return that the next token is not what is wanted at its place."""
        what = "the end" if self.kind == "end" else repr(self.token[:SHOWN])
        line = self._text.count("\n", 0, self._end) + 1
        return NotParsed("line {}: {} is not expected".format(line, what))

    def skip(self, *signs: str) -> bool:
        """Go on if the next token is one of these signs; return whether it was."""
        if self.kind == "sign" and self.token in signs:
            self.go_on()
            return True
        return False

    def field(self, message: Any, depth: int) -> None:
        """Read a field of a message, or of none: with all its values, if they are listed."""
        if depth > DEEPEST:
            raise NotParsed("it is nested deeper than {}".format(DEEPEST))
        field = None
        if self.skip("["):  # the name of an extension, or of a type
            while not self.skip("]"):
                if self.kind == "end":
                    raise self.unexpected()
                self.go_on()
        elif self.kind == "name":
            name = self.token
            field = None if message is None else _fields(message.DESCRIPTOR).get(name)
            if self._usual_value(message, field, depth):
                return
            self.go_on()
        else:
            raise self.unexpected()
        self.skip(":")
        if self.skip("["):
            while not self.skip("]"):
                self.value(message, field, depth)
                self.skip(",")
        else:
            self.value(message, field, depth)
        self.skip(",", ";")

    def _usual_value(self, message: Any, field: Optional[FieldDescriptor], depth: int) -> bool:
        """Read the value of a field by whose name it is, if it is as printers write it, and fits.

        Token by token, which finds out what is wrong with another one, takes twice as long.
        """
        match = USUAL.match(self._text, self._end)
        if match is None:
            return False
        word, quoted, opening, name, _ = match.groups()
        if field is not None and (field.message_type is not None) != (opening is not None):
            return False
        if field is not None and opening is None:
            text, is_quoted = (quoted, True) if word is None else (word, False)
            try:
                _set(message, field, _value_of(field, text, is_quoted))
            except NOT_FITTING:
                return False
        self._count_value()
        self._end = match.end()
        self.kind, self.token = ("sign", "}") if name is None else ("name", name)
        if opening is not None:
            self._message(message, field, "}", depth)
        return True

    def _count_value(self) -> None:
        self._values_left -= 1
        if self._values_left < 0:
            raise NotParsed("it has too many values for its size")

    def value(self, message: Any, field: Optional[FieldDescriptor], depth: int) -> None:
        """Read one value of a field; field: None for one that is left out."""
        self._count_value()
        if self.kind == "sign" and self.token in CLOSING:
            closing = CLOSING[self.go_on()]
            if field is not None and field.message_type is None:
                raise self.unexpected()
            self._message(message, field, closing, depth)
        elif self.kind in ("name", "number", "quote") or self.token == "-":
            self._scalar(message, field)
        else:
            raise self.unexpected()

    def _message(
        self, message: Any, field: Optional[FieldDescriptor], closing: str, depth: int
    ) -> None:
        inner: Any = None
        map_: Any = None
        if field is not None:
            inner = getattr(message, field.name)
            if hasattr(inner, "GetEntryClass"):
                map_, inner = inner, inner.GetEntryClass()()
            elif hasattr(inner, "add"):
                inner = inner.add()
            else:
                inner.SetInParent()
        while not self.skip(closing):
            self.field(inner, depth + 1)
        if map_ is not None and hasattr(inner.value, "CopyFrom"):
            map_[inner.key].CopyFrom(inner.value)
        elif map_ is not None:
            map_[inner.key] = inner.value

    def _scalar(self, message: Any, field: Optional[FieldDescriptor]) -> None:
        sign = "-" if self.skip("-") else ""
        if field is None:
            self._text_of(self.kind)
            return
        wrong = self.unexpected
        try:
            is_quoted = self.kind == "quote"
            if field.message_type is not None or is_quoted != _is_text(field):
                raise ValueError
            _set(message, field, _value_of(field, sign + self._text_of(self.kind), is_quoted))
        except NOT_FITTING:
            raise wrong()

    def _text_of(self, kind: str) -> str:
        """Return the next token; texts one after the other are one."""
        if kind != "quote":
            return self.go_on()
        parts = []
        while self.kind == "quote":
            parts.append(self.go_on()[1:-1])
        return "".join(parts)


def _set(message: Any, field: FieldDescriptor, value: Any) -> None:
    """Give a field of a message a value, or one more; one of NOT_FITTING if it can't have it."""
    target = getattr(message, field.name)
    if hasattr(target, "append"):
        target.append(value)
    else:
        setattr(message, field.name, value)


def _is_text(field: FieldDescriptor) -> bool:
    return field.cpp_type == FieldDescriptor.CPPTYPE_STRING


def _value_of(field: FieldDescriptor, text: str, is_quoted: bool) -> Any:
    """Return the value of a field that a text means; one of NOT_FITTING if it means none."""
    if is_quoted != _is_text(field):
        raise ValueError
    if is_quoted:
        content = text_encoding.CUnescape(text) if "\\" in text else text.encode("utf-8")
        is_bytes = field.type == FieldDescriptor.TYPE_BYTES
        return content if is_bytes else content.decode("utf-8")
    if len(text) > LONGEST_NUMBER:
        raise ValueError
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return TRUTHS[text.lower()]
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM and not NUMBER.match(text):
        return field.enum_type.values_by_name[text].number
    if field.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return float(text if text.lower().lstrip("-") == "inf" else text.rstrip("fF"))
    return int(text, 0)

# SPDX-License-Identifier: MIT
"""The syntax of xl's configuration files (xl.cfg(5)): settings with their lines, before they mean anything.

name = "web"; memory = 0x200            # numbers are decimal, 0x hexadecimal, 0 octal
disk = [ 'phy:/dev/vg/web,xvda,w',      # lists may be nested and go over lines
         'file:/srv/data.img,xvdb,r' ]
extra += " quiet"                       # += adds to a string or a list
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from pyxc import errors

_BYTES_MOST = 1 << 20
_DEPTH_MOST = 8
_TOKENS = re.compile(
    r"""(?P<space>[ \t\r\f\v]+|\#[^\n]*)
    |(?P<newline>\n)
    |(?P<name>[a-z][._0-9a-z]*)
    |(?P<number>[0-9][0-9a-fA-FxX]*)
    |(?P<string>'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")
    |(?P<mark>\+=|[=,;\[\]])""",
    re.VERBOSE,
)
_ESCAPE = r"\\(?:x([0-9a-fA-F]{1,2})|([0-7]{1,3})|(.))"
_ESCAPED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_PLAIN_OVERRIDE = r"([a-z][._0-9a-z]*)[ ]*=[ ]*([^\s'\"\[\];#\\][^\n\r'\"\[\];#\\]*)"
_DECIMAL, _HEXADECIMAL = frozenset("0123456789"), frozenset("0123456789abcdefABCDEF")

Value = str | list["Value"]
"""A string, a number as written in the file, or a list."""


class Setting(NamedTuple):
    """One key with its value; `where` is its position for messages, such as "web.cfg:3"."""

    key: str
    value: Value
    where: str


class _Token(NamedTuple):
    kind: str
    text: str
    line: int


def parse(text: str, name: str = "configuration") -> dict[str, Setting]:
    """All settings of a text by key; the last one of a key wins. ConfigError names the line."""
    if len(text) > _BYTES_MOST:
        raise errors.ConfigError(f"{name}: more than {_BYTES_MOST} characters are no configuration")
    return _Parser(text, name).settings({})


def with_override(settings: dict[str, Setting], text: str) -> dict[str, Setting]:
    """The same with a setting of the command line, as `memory=512`, which may omit the quotes of a string.

    ConfigError.
    """
    name = f"argument {text!r}"
    if len(text) > _BYTES_MOST:
        raise errors.ConfigError("an argument is too long")
    plain = re.fullmatch(_PLAIN_OVERRIDE, text)
    if plain:
        return settings | {plain[1]: Setting(plain[1], plain[2], name)}
    return _Parser(text, name, lines=False).settings(settings)


class _Parser:
    """A recursive descent parser with a bounded depth."""

    def __init__(self, text: str, name: str, lines: bool = True) -> None:
        self._name = name
        self._lines = lines
        self._tokens = self._tokenized(text)
        self._next = next(self._tokens)

    def _tokenized(self, text: str) -> Iterator[_Token]:
        place, line = 0, 1
        while place < len(text):
            match = _TOKENS.match(text, place)
            if match is None:
                shown = text[place : place + 20].split("\n")[0]
                raise self._error(line, f"{shown!r} cannot be read: a string needs its quotes")
            if match.lastgroup != "space":
                yield _Token(match.lastgroup or "", match[0], line)
            line += match[0].count("\n")
            place = match.end()
        yield _Token("newline", "\n", line)
        while True:
            yield _Token("end", "", line)

    def _error(self, line: int, text: str) -> errors.ConfigError:
        return errors.ConfigError(f"{self._where(line)}: {text}")

    def _where(self, line: int) -> str:
        return f"{self._name}:{line}" if self._lines else self._name

    def _take(self) -> _Token:
        token, self._next = self._next, next(self._tokens)
        return token

    def settings(self, before: dict[str, Setting]) -> dict[str, Setting]:
        """Parse all settings, on top of earlier ones."""
        found = dict(before)
        while self._next.kind != "end":
            if self._next.kind == "newline" or self._next.text == ";":
                self._take()
                continue
            setting, added = self._setting()
            if added and setting.key in found:
                setting = setting._replace(value=self._sum(found[setting.key].value, setting))
            found[setting.key] = setting
        return found

    def _setting(self) -> tuple[Setting, bool]:
        """One setting, and whether it adds to an earlier one."""
        key = self._take()
        if key.kind != "name":
            raise self._error(key.line, f"{key.text!r} stands where a key is expected")
        sign = self._take()
        if sign.text not in ("=", "+="):
            raise self._error(key.line, f"= is expected after {key.text}")
        value = self._value(0)
        end = self._take()
        if end.kind != "newline" and end.text != ";":
            raise self._error(end.line, f"{end.text!r} after the value of {key.text}")
        return Setting(key.text, value, self._where(key.line)), sign.text == "+="

    def _value(self, depth: int) -> Value:
        token = self._take()
        if token.kind == "number":
            return token.text
        if token.kind == "string":
            return self._dequoted(token)
        if token.text != "[":
            shown = "the end of the line" if token.kind in ("newline", "end") else repr(token.text)
            raise self._error(token.line, f"{shown} stands where a value is expected")
        if depth == _DEPTH_MOST:
            raise self._error(token.line, f"lists are nested more than {_DEPTH_MOST} deep")
        return self._list(depth + 1)

    def _list(self, depth: int) -> Value:
        """Parse a list after its bracket. Newlines are allowed anywhere, and so is a comma at the end."""
        values: list[Value] = []
        while True:
            self._skip_newlines()
            if self._next.text == "]" and self._next.kind == "mark":
                self._take()
                return values
            values.append(self._value(depth))
            self._skip_newlines()
            if self._next.kind != "mark" or self._next.text not in (",", "]"):
                raise self._error(self._next.line, f"{self._next.text!r} in a list: , or ] is expected")
            if self._next.text == ",":
                self._take()

    def _skip_newlines(self) -> None:
        while self._next.kind == "newline":
            self._take()

    def _dequoted(self, token: _Token) -> str:
        def escaped(match: re.Match[str]) -> str:
            if match[1] or match[2]:
                return chr(int(match[1], 16) if match[1] else int(match[2], 8) & 0xFF)
            if match[3] not in _ESCAPED and match[3] not in "\\'\"":
                raise self._error(token.line, f"\\{match[3]} is no escape")
            return _ESCAPED.get(match[3], match[3])

        text = token.text[1:-1]
        return re.sub(_ESCAPE, escaped, text) if "\\" in text else text

    def _sum(self, before: Value, setting: Setting) -> Value:
        if isinstance(before, list) and isinstance(setting.value, list):
            return before + setting.value
        if isinstance(before, str) and isinstance(setting.value, str):
            return before + setting.value
        raise errors.ConfigError(f"{setting.where}: {setting.key} is a list and a string")


def number(setting: Setting, most: int, least: int = 0) -> int:
    """The number in a setting. ConfigError."""
    text = setting.value
    if not isinstance(text, str) or not _is_number(text):
        raise errors.ConfigError(f"{setting.where}: {setting.key} must be a number")
    octal = text[0] == "0" and text.isdigit()
    try:
        value = int(text, 8 if octal else 0)
    except ValueError as error:
        raise errors.ConfigError(f"{setting.where}: {setting.key} is {text}, which is not octal") from error
    if not least <= value <= most:
        raise errors.ConfigError(f"{setting.where}: {setting.key} must be from {least} to {most}")
    return value


def _is_number(text: str) -> bool:
    if text[:2] in ("0x", "0X"):
        return 2 < len(text) <= 18 and _HEXADECIMAL.issuperset(text[2:])
    return 0 < len(text) <= 20 and _DECIMAL.issuperset(text)


def string(setting: Setting) -> str:
    """The string in a setting, without NUL. ConfigError."""
    if not isinstance(setting.value, str) or "\0" in setting.value:
        raise errors.ConfigError(f"{setting.where}: {setting.key} must be a string")
    return setting.value


def strings(setting: Setting) -> tuple[str, ...]:
    """The strings of a list. ConfigError."""
    values = setting.value if isinstance(setting.value, list) else [None]
    found = tuple(value for value in values if isinstance(value, str) and "\0" not in value)
    if len(found) < len(values):
        raise errors.ConfigError(f"{setting.where}: {setting.key} must be a list of strings")
    return found

"""The filter language of the request table: `ttft>200 & phase==decode`, `id~^r-9 | out>=100`.

expression = term { "|" term }      term = factor { "&" factor }
factor     = "!" factor | "(" expression ")" | field operator value
operator   = == = != < <= > >= ~ !~         (~ is a regular expression, for words only)
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Final

from llmtop.columns import FIELDS
from profiler.folds.request_view import RequestView

Predicate = Callable[[RequestView, int], bool]

_TOKEN = re.compile(r"\s*(!~|==|!=|<=|>=|[<>=~&|!()]|\"[^\"]*\"|[^\s<>=~&|!()\"]+)")
_COMPARE: Final[dict[str, Callable[[object, object], bool]]] = {
    "==": operator.eq,
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,  # type: ignore[dict-item]
    "<=": operator.le,  # type: ignore[dict-item]
    ">": operator.gt,  # type: ignore[dict-item]
    ">=": operator.ge,  # type: ignore[dict-item]
}
_UNIT_OF: Final = {"ms": 1.0, "s": 1000.0}
_MAX_LENGTH: Final = 500


class FilterError(Exception):
    """`message` says what was expected; `position` is the column at which reading stopped."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.message = message
        self.position = position


def parse_filter(text: str) -> Predicate:
    """A function of a request and the state's time. Raises: FilterError."""
    if len(text) > _MAX_LENGTH:
        raise FilterError(f"longer than {_MAX_LENGTH} characters", _MAX_LENGTH)
    return _Parser(text).parse()


def words_in(text: str) -> set[str]:
    """The names of fields that a filter reads, and the values it holds them against."""
    return {token for token, _ in _tokens(text)}


def _tokens(text: str) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    at = 0
    end = len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            raise FilterError("a quote is not closed", at)
        found.append((match[1], match.start(1)))
        at = match.end()
    return found


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._next = 0
        self._end = len(text)

    def parse(self) -> Predicate:
        result = self._expression()
        if self._peek() != "":
            raise FilterError(f"expected & or | before {self._peek()}", self._position())
        return result

    def _expression(self) -> Predicate:
        terms = [self._term()]
        while self._take("|"):
            terms.append(self._term())
        return terms[0] if len(terms) == 1 else lambda r, t: any(p(r, t) for p in terms)

    def _term(self) -> Predicate:
        factors = [self._factor()]
        while self._take("&"):
            factors.append(self._factor())
        return factors[0] if len(factors) == 1 else lambda r, t: all(p(r, t) for p in factors)

    def _factor(self) -> Predicate:
        if self._take("!"):
            inner = self._factor()
            return lambda r, t: not inner(r, t)
        if self._take("("):
            group = self._expression()
            if not self._take(")"):
                raise FilterError("expected )", self._position())
            return group
        return self._comparison()

    def _comparison(self) -> Predicate:
        at = self._position()
        name = self._pop("a field")
        if name not in FIELDS:
            raise FilterError(f"no field {name!r}; there are: {' '.join(FIELDS)}", at)
        at = self._position()
        sign = self._pop("one of == != < <= > >= ~")
        if sign not in _COMPARE and sign not in ("~", "!~"):
            raise FilterError(f"expected one of == != < <= > >= ~, not {sign!r}", at)
        at = self._position()
        value = self._pop("a value").strip('"')
        field = FIELDS[name]
        if field.is_word:
            return _word_test(field.value, sign, value, at)
        return _number_test(field.value, sign, value, at)

    def _peek(self) -> str:
        return self._tokens[self._next][0] if self._next < len(self._tokens) else ""

    def _position(self) -> int:
        return self._tokens[self._next][1] if self._next < len(self._tokens) else self._end

    def _take(self, token: str) -> bool:
        taken = self._peek() == token
        self._next += taken
        return taken

    def _pop(self, expected: str) -> str:
        token = self._peek()
        if not token:
            raise FilterError(f"expected {expected}", self._position())
        self._next += 1
        return token


def _word_test(
    value: Callable[[RequestView, int], object], sign: str, wanted: str, at: int
) -> Predicate:
    if sign in ("~", "!~"):
        try:
            pattern = re.compile(wanted)
        except re.error as error:
            raise FilterError(f"not a regular expression: {error}", at) from None
        return lambda r, t: (pattern.search(str(value(r, t))) is not None) == (sign == "~")
    if sign not in ("==", "=", "!="):
        raise FilterError("words are compared with == != or ~", at)
    return lambda r, t: (str(value(r, t)) == wanted) == (sign != "!=")


def _number_test(
    value: Callable[[RequestView, int], object], sign: str, wanted: str, at: int
) -> Predicate:
    if sign not in _COMPARE:
        raise FilterError("numbers are compared with == != < <= > >=", at)
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s)?", wanted)
    if match is None:
        raise FilterError(f"expected a number, not {wanted!r}", at)
    number = float(match[1]) * _UNIT_OF.get(match[2] or "ms", 1.0)
    compare = _COMPARE[sign]

    def test(request: RequestView, t_ns: int) -> bool:
        actual = value(request, t_ns)
        return actual is not None and compare(actual, number)

    return test

"""The grammar of filters, read by sqlglot: words that have no meaning here are refused before it makes a tree of them."""

import re

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import ParseError, TokenError
from sqlglot.tokens import Token, Tokenizer, TokenType

from zoo.index._columns import Columns
from zoo.index._conditions import RefusedError

UNDERSTOOD = (
    "understood are =, <>, <, <=, >, >=, IN (…), BETWEEN … AND …, LIKE, ILIKE, IS NULL, IS TRUE and IS FALSE between "
    "columns and values, joined by AND, OR, NOT and parentheses, such as \"label = 'cat' AND year >= 2020\""
)
# Parentheses and NOTs one inside the other. Lance's own parser ends at 50, and needs up to two for each of these.
DEEPEST = 20
_NAME = re.compile(r"[^\W\d]\w*")
_WORDS = {
    *(TokenType.AND, TokenType.OR, TokenType.NOT, TokenType.IN, TokenType.IS, TokenType.BETWEEN),
    *(TokenType.LIKE, TokenType.ILIKE, TokenType.NULL, TokenType.TRUE, TokenType.FALSE),
}
# Words that mean something only before a text, such as DATE '2024-12-31'; elsewhere they are names of columns.
_BEFORE_TEXTS = {TokenType.DATE, TokenType.TIME, TokenType.TIMESTAMP, TokenType.ESCAPE}
_COMPARISONS = {TokenType.EQ, TokenType.NEQ, TokenType.LT, TokenType.LTE, TokenType.GT, TokenType.GTE}
_BEFORE_VALUES = {*_WORDS, *_COMPARISONS, TokenType.L_PAREN, TokenType.COMMA}
_SIGNS = {
    *(*_COMPARISONS, TokenType.L_PAREN, TokenType.R_PAREN, TokenType.COMMA),
    *(TokenType.NUMBER, TokenType.STRING, TokenType.IDENTIFIER),
}


class Filters(Dialect):
    """Standard SQL, with names in backticks too, as Lance writes them."""

    class Tokenizer(Tokenizer):
        """Only the quotes differ."""

        IDENTIFIERS = ['"', "`"]  # noqa: RUF012 - as sqlglot declares it


def read(where: str, columns: Columns) -> exp.Expression:
    """The tree of a filter; raises RefusedError at the first word that is not understood.

    Args:
        columns: a word that names one is one, even if it has a meaning in SQL (`date`, `order`).
    """
    broken = next((at for at, letter in enumerate(where) if "\ud800" <= letter <= "\udfff"), None)
    if broken is not None:
        raise RefusedError(
            f"letter {broken + 1}, {where[broken]!r}, is half of a character, which no column holds; was the filter cut "
            "or read in a wrong encoding?"
        )
    if not where.strip():
        raise RefusedError(f"it is empty; leave it out to keep every row; {UNDERSTOOD}")
    dialect = Filters()
    try:
        tokens = dialect.tokenize(where)
    except TokenError:
        raise RefusedError(f"a quote is opened and not closed; {UNDERSTOOD}") from None
    _check_depth(tokens)
    tokens = [_checked(tokens, at, columns) for at in range(len(tokens))]
    if not tokens:
        raise RefusedError(f"comments are not understood; {UNDERSTOOD}")
    try:
        (tree,) = dialect.parser().parse_into(exp.Condition, tokens, where)
    except ParseError as error:
        raise RefusedError(_told(error)) from None
    if tree is None:
        raise RefusedError(f"there is no condition in it; {UNDERSTOOD}")
    return tree


def _checked(tokens: list[Token], at: int, columns: Columns) -> Token:
    """A token as sqlglot is given it: every name as if it were in quotes, so that no name has a meaning of its own."""
    token = tokens[at]
    kind, text = token.token_type, token.text
    after = tokens[at + 1] if at + 1 < len(tokens) else None
    place = f"{text!r} (letter {token.start + 1})"
    if token.comments:
        raise RefusedError(f"comments are not understood, such as that beside {place}; {UNDERSTOOD}")
    if (
        kind in _SIGNS
        or (kind in _WORDS and _NAME.fullmatch(text))  # "!" is a NOT too
        or (kind in _BEFORE_TEXTS and after and after.token_type == TokenType.STRING)
    ):
        return token
    before = tokens[at - 1].token_type if at else TokenType.L_PAREN
    follows = after.token_type if after else None
    if kind == TokenType.DASH and before in _BEFORE_VALUES and follows in (TokenType.NUMBER, TokenType.DOT):
        return token  # of -5; after a value or a column it is arithmetic
    if kind == TokenType.DOT and before in (*_BEFORE_VALUES, TokenType.DASH) and follows == TokenType.NUMBER:
        return token  # of .5
    if kind in (TokenType.DASH, TokenType.PLUS, TokenType.STAR, TokenType.SLASH, TokenType.MOD):
        raise RefusedError(
            f"arithmetic is not understood, {place}; a date is written in quotes, as '2024-12-31'; {UNDERSTOOD}"
        )
    if kind == TokenType.DOT:
        raise RefusedError(f'{place} is not understood; a name that holds a dot is written in double quotes: "a.b"')
    if not _NAME.fullmatch(text):
        raise RefusedError(f"{place} is not understood; {UNDERSTOOD}")
    if after is not None and after.token_type == TokenType.L_PAREN:
        raise RefusedError(f"functions are not understood, such as {text}() at letter {token.start + 1}; {UNDERSTOOD}")
    if kind != TokenType.VAR and text not in columns:
        raise RefusedError(f"{place} is not understood: {columns.missing(text)}; {UNDERSTOOD}")
    return Token(TokenType.IDENTIFIER, text, token.line, token.col, token.start, token.end)


def _check_depth(tokens: list[Token]) -> None:
    """Refuses what is nested so deep that a parser would run out of stack."""
    open_, nots, depth = [], 0, 0
    for token in tokens:
        if token.token_type == TokenType.NOT:
            nots += 1
            depth += 1
        elif token.token_type == TokenType.L_PAREN:
            open_.append(nots + 1)
            nots, depth = 0, depth + 1
        else:
            closed = open_.pop() if token.token_type == TokenType.R_PAREN and open_ else 0
            nots, depth = 0, depth - nots - closed
        if depth > DEEPEST:
            raise RefusedError(
                f"at letter {token.start + 1} more than {DEEPEST} parentheses and NOTs are nested; write it flatter: a "
                "chain of AND or OR needs none, and IN (…) takes many values"
            )


def _told(error: ParseError) -> str:
    about = error.errors[0]
    word, what = about["highlight"], about["description"]
    letter = about["col"] - len(word) + 1
    place = f"{word!r} (letter {letter})" if about["line"] == 1 else f"{word!r} (line {about['line']}, letter {letter})"
    if "missing" in what:
        return f"something is missing after {place}; {UNDERSTOOD}"
    if what.startswith("Expecting"):
        return f"{what.removeprefix('Expecting ')!r} was expected after {place}; {UNDERSTOOD}"
    return f"{place} was not expected there; {UNDERSTOOD}"

"""Lines of limited width: what of a hostile dump may reach a terminal, and where a line breaks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

UNLIMITED = 1_000_000

# What ASCII has to say instead of the few characters that netk8s itself uses.
_ASCII = str.maketrans(
    {
        "→": "->", "←": "<-", "…": "...", "–": "-", "—": "-", "·": "-", "×": "x", "≠": "!=", "≤": "<=", "≥": ">=",
        "’": "'", "‘": "'", "“": '"', "”": '"', "├": "|", "└": "`", "│": "|", "─": "-",
    }
)  # fmt: skip

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}


def printable(text: str, ascii: bool = False) -> str:
    r"""Text without anything that moves a cursor, hides or reorders: such characters become ``\x1b``.

    Comments of rules are written by whoever may create a Service, so a rule's text is not trusted.
    A byte that was no UTF-8 is kept in a dump as a lone surrogate and shown as the byte it was.
    """
    if ascii:
        text = text.translate(_ASCII)
        if text.isascii() and text.isprintable():
            return text
        return "".join(c if c.isascii() and c.isprintable() else _escape(c) for c in text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(c: str) -> str:
    code = ord(c)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def cells(text: str) -> int:
    """The columns that a terminal needs for the text: two for wide East Asian characters, none for combining ones."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def wrap(text: str, width: int, hang: int = 0, first: int | None = None) -> list[str]:
    """The text in lines of at most ``width`` columns, all but the first indented by ``hang``.

    ``first`` is the width of the first line, where it has less room than the others.

    A word that is too long for a line is cut: nothing is left out and nothing sticks out.
    """
    if width >= UNLIMITED:
        return [text]
    width = max(width, 8)  # a cut always gets on
    first = width if first is None else max(first, 8)
    hang = min(hang, max(0, width - 20))
    if text.isascii() and (quick := _at_blanks(text, first, width - hang)) is not None:
        return [quick[0], *(" " * hang + line for line in quick[1:])]
    lines: list[str] = []
    line, used = "", 0
    for word in text.split(" "):
        size = cells(word)
        if line and used + 1 + size <= (width if lines else first):
            line, used = f"{line} {word}", used + 1 + size
            continue
        if line:
            lines.append(line)
        line = " " * hang + word if lines else word
        used = cells(line)
        while used > (room := width if lines else first):
            head, line = _cut(line, room)
            lines.append(head)
            line = " " * hang + line
            used = cells(line)
    lines.append(line)
    return lines


def _at_blanks(text: str, first: int, rest: int) -> list[str] | None:
    """The lines of ASCII words with one blank between them, None for other text and for words too long for a line."""
    if text[:1] == " " or "  " in text:
        return None
    lines: list[str] = []
    room = first
    while len(text) > room:
        at = text.rfind(" ", 0, room + 1)
        if at < 0:
            return None
        lines.append(text[:at])
        text, room = text[at + 1 :], rest
    return [*lines, text]


def _cut(text: str, width: int) -> tuple[str, str]:
    used = 0
    for at, c in enumerate(text):
        used += cells(c)
        if used > width:
            return text[:at], text[at:]
    return text, ""


class Page:
    """Lines in the making. ``width`` is a promise, from 60 columns on: no line is longer."""

    def __init__(self, width: int, *, color: bool = False, ascii: bool = False) -> None:
        self.width = max(width, 60)
        self.color = color
        self.ascii = ascii
        self._lines: list[str] = []

    def clean(self, text: str) -> str:
        """Text that may be printed here, see :func:`printable`."""
        return printable(text, self.ascii)

    def paint(self, text: str, style: str) -> str:
        """The text in a style ("bold red"), or as it is without colour. Styles never carry a meaning alone."""
        if not self.color or not style or not text:
            return text
        codes = ";".join(_STYLES[name] for name in style.split())
        return f"\x1b[{codes}m{text}\x1b[0m"

    def raw(self, line: str) -> None:
        """A line that is already clean, short enough and painted."""
        self._lines.append(line.rstrip(" "))

    def blank(self) -> None:
        """An empty line, never two of them."""
        if self._lines and self._lines[-1]:
            self._lines.append("")

    def put(self, text: str, *, first: str = "", rest: str | None = None, style: str = "", lead: str = "") -> None:
        """A paragraph: ``first`` stands before its first line, ``rest`` (or as many blanks) before the others.

        ``style`` is for the text, ``lead`` for what stands before it.
        """
        line = first + text
        if len(line) <= self.width and line.isascii() and line.isprintable() and text[:1] != " ":
            # Most lines are short: there is nothing to wrap.
            self.raw(self.paint(first, lead) + self.paint(text, style) if self.color else line)
            return
        first = self.clean(first)
        rest = " " * cells(first) if rest is None else self.clean(rest)
        lines = wrap(self.clean(text), self.width - cells(rest), 0, self.width - cells(first))
        for number, line in enumerate(lines):
            before = rest if number else first
            self.raw(self.paint(before, lead) + self.paint(line, style))

    def rows(self, rows: Sequence[tuple[str, str]], rest: str) -> None:
        """Paragraphs as :meth:`put` has them, of (first, text): most are short, and are looked at together."""
        lines = [first + text for first, text in rows]
        whole = "".join(lines)
        if (
            self.color
            or not (whole.isascii() and whole.isprintable())
            or max(map(len, lines), default=0) > self.width
            or any(text[:1] == " " for _, text in rows)
        ):
            for first, text in rows:
                self.put(text, first=first, rest=rest)
        else:
            self._lines += [line.rstrip(" ") for line in lines]

    def title(self, text: str) -> None:
        """A heading after an empty line."""
        self.blank()
        self.put(text, style="bold")

    def bullets(self, items: Iterable[str], mark: str = "- ", indent: int = 2) -> None:
        """A list, one paragraph per item."""
        for item in items:
            self.put(" ".join(item.split()), first=" " * indent + mark)

    def text(self) -> str:
        """All lines, each with its line feed."""
        return "\n".join(self._lines) + "\n"

    def taken(self) -> str:
        """All lines but the last, each with its line feed; they are let go."""
        done, self._lines = self._lines[:-1], self._lines[-1:]
        return "\n".join([*done, ""])

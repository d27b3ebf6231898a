"""The text of iptables-save, taken apart and put together again, so that rules can be changed in it."""

from __future__ import annotations

import re
import shlex

from msgspec import Struct, field

from netk8s.errors import DecodeError, NotFound, UsageError
from netk8s.model import Dump
from netk8s.whatif._wanted import near

BUILT_IN = {
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "raw": ("PREROUTING", "OUTPUT"),
    "security": ("INPUT", "FORWARD", "OUTPUT"),
}
"""The chains of each table that iptables makes with it."""

_COUNTED = re.compile(r"^\[\d+:\d+\] ")


class Section(Struct):
    """A table: the declarations and the rules of each chain, in order. Rules begin with ``-A CHAIN``.

    ``head`` are the comments before it, which name the backend and the family.
    """

    declared: dict[str, str] = field(default_factory=dict)
    rules: dict[str, list[str]] = field(default_factory=dict)
    head: tuple[str, ...] = ()


class Save:
    """The tables of one dump, to be changed in place."""

    def __init__(self, dump: Dump) -> None:
        self.dump = dump
        self.tables: dict[str, Section] = {}
        comments: list[str] = []
        here: Section | None = None
        text = bytes(dump.data).decode("utf-8", "surrogateescape")
        for number, line in enumerate(text.splitlines(), 1):
            line = _COUNTED.sub("", line.strip())
            if line.startswith("*"):
                here = self.tables.setdefault(line[1:].strip(), Section(head=tuple(comments)))
                comments = []
            elif line.startswith("#"):
                comments.append(line)
            elif here is None and line:
                raise DecodeError(
                    dump.origin, number, "rules can only be changed in what iptables-save prints, with its *table lines"
                )
            elif here is not None and line.startswith(":"):
                here.declared[line[1:].split(" ", 1)[0]] = line
            elif here is not None and line.startswith("-A "):
                here.rules.setdefault(line.split(" ", 2)[1], []).append(line)

    def section(self, table: str) -> Section:
        """A table, made with its own chains where the dump has none, as iptables makes it."""
        if table not in BUILT_IN:
            raise NotFound(f"table {table}", BUILT_IN)
        if table not in self.tables:
            head = next((section.head for section in self.tables.values()), ())
            self.tables[table] = Section({chain: f":{chain} ACCEPT [0:0]" for chain in BUILT_IN[table]}, head=head)
        return self.tables[table]

    def text(self) -> Dump:
        """The dump with the changed text. Its lines are other lines than those of the original."""
        lines: list[str] = []
        for name, section in self.tables.items():
            lines += [*section.head, f"*{name}", *section.declared.values()]
            # iptables-save prints each chain's rules together.
            for chain in dict.fromkeys((*section.declared, *section.rules)):
                lines += section.rules.get(chain, ())
            lines.append("COMMIT")
        data = ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")
        return Dump(f"{self.dump.origin} (changed)", data, self.dump.node, self.dump.pod)


def apply(save: Save, words: str) -> str:
    """One command of iptables: ``[-t TABLE] -A|-I|-D CHAIN …``, a rule as iptables-save prints it. Returns the table.

    Raises UsageError for other commands, NotFound for a chain or rule that is not there.
    """
    try:
        found = shlex.split(words)
    except ValueError as error:
        raise UsageError(f"rule {words!r}: {error}") from None
    table = "filter"
    if found[:1] in (["iptables"], ["ip6tables"]):
        found = found[1:]
    for option in ("-t", "--table"):
        if option in found[:-1]:
            at = found.index(option)
            table = found[at + 1]
            del found[at : at + 2]
    if len(found) < 3 or found[0] not in ("-A", "-I", "-D"):
        raise UsageError(
            f"rule {words!r}: expected [-t TABLE] -A, -I or -D, a chain and a rule as iptables-save prints it"
        )
    verb, chain, rest = found[0], found[1], found[2:]
    place = 1
    if rest[0].isdecimal():
        place, rest = int(rest[0]), rest[1:]
    section = save.section(table)
    if chain not in section.declared:
        raise NotFound(f"chain {chain} of table {table}", near(chain, section.declared))
    rules = section.rules.setdefault(chain, [])
    line = " ".join(("-A", chain, *(_quoted(word) for word in _with_matches(rest))))
    if verb == "-A":
        rules.append(line)
    elif verb == "-I":
        if not 1 <= place <= len(rules) + 1:
            raise UsageError(f"rule {words!r}: chain {chain} has {len(rules)} rules")
        rules.insert(place - 1, line)
    elif not rest:
        if not 1 <= place <= len(rules):
            raise UsageError(f"rule {words!r}: chain {chain} has {len(rules)} rules")
        del rules[place - 1]
    else:
        same = [index for index, rule in enumerate(rules) if shlex.split(rule) == shlex.split(line)]
        if not same:
            raise NotFound(f"rule {line}", near(line, rules))
        del rules[same[0]]
    return table


def _with_matches(words: list[str]) -> list[str]:
    """The words with the match that a protocol brings along by itself (``-p tcp --dport``), as iptables-save writes it."""
    ports = {"--dport", "--sport", "--destination-port", "--source-port", "--tcp-flags", "--syn"}
    if "-p" not in words[:-1] or not ports & set(words):
        return words
    protocol = words[words.index("-p") + 1]
    first = min(words.index(word) for word in ports & set(words))
    first -= words[first - 1] == "!"
    named = any(words[i : i + 2] == ["-m", protocol] for i in range(len(words)))
    return words if named else [*words[:first], "-m", protocol, *words[first:]]


def _quoted(word: str) -> str:
    if re.fullmatch(r"[\w.:/,!@%+=-]+", word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'

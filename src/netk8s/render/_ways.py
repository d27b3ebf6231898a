"""The ways of a packet on a page: a tree of what matched, in columns of chain, rule and place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from msgspec import Struct

from netk8s.model import At, Step, Way
from netk8s.render._page import UNLIMITED, Page, cells, wrap
from netk8s.render._tree import Branch, End, Enter, Leave, conditions, shape, total, tree
from netk8s.render._words import address, chance, changed, ending, listed, remarks, short, where

# A chain's name is 28 characters at most in iptables; "nat " before it. Longer ones (nftables) get a line of their own.
_CHAIN = 33
# The narrowest column worth having for a rule.
_RULE = 24

_OPTION = re.compile(r"(?<!\S)(!|--?[a-z][\w-]*) (?=[^\s!-])")


class _Item(Struct):
    """One stretch still to be put: its heading after ``first``, all else after ``before``."""

    first: str
    before: str
    heading: str
    branch: Branch | None
    node: str = ""
    hook: str = ""


def put_ways(page: Page, ways: Sequence[Way], chosen: Sequence[int], *, full: bool) -> None:
    """The ``chosen`` ways as a tree. Unless ``full``, rules without effect are counted and equal branches told once."""
    view = _View(page, ways, full)
    todo = [_Item("", "", "", tree(ways, chosen))]  # a stack and no recursion: a ruleset may fork as often as it likes
    while todo:
        item = todo.pop()
        if item.heading:
            page.put(item.heading, first=item.first, rest=item.before, style="bold")
        if item.branch is not None:
            view.stretch(item, item.branch)
            todo.extend(reversed(view.fork(item, item.branch)))


class _View:
    """What all lines of one tree have in common: the columns and the folders of each node's files."""

    def __init__(self, page: Page, ways: Sequence[Way], full: bool) -> None:
        self.page, self.ways, self.full = page, ways, full
        # One folder that holds all of a node's files is named once, at the node: it leaves room for the rules.
        self.folders: dict[str, str] = {}
        self.chain_column = self.at_column = 0
        steps = {(hop.node, step): None for way in ways for hop in way.hops for step in hop.steps}
        for node, step in steps:
            if step.at is not None:
                folder = step.at.origin.rpartition("/")[0]
                if self.folders.setdefault(node, folder) != folder:
                    self.folders[node] = ""
        for node, step in steps:
            if step.rule is not None or step.chain:
                size = cells(page.clean(_chain(step)))
                if full or size <= _CHAIN:
                    self.chain_column = max(self.chain_column, size)
            self.at_column = max(self.at_column, cells(page.clean(self.place(node, step.at))))

    def place(self, node: str, at: At | None) -> str:
        """file:line, without the folder that the node's heading names."""
        if at is None:
            return ""
        folder = self.folders.get(node)
        return str(at)[len(folder) + 1 :] if folder and not self.full else str(at)

    def stretch(self, item: _Item, branch: Branch) -> None:
        """The events of a stretch, up to the next fork."""
        page, before = self.page, item.before
        folded, heading = 0, ""
        for event, matters in branch.events:
            if isinstance(event, Step):
                if event.hook != item.hook:
                    self.folds(before, folded, heading)
                    folded, item.hook = 0, event.hook
                    # A decision without a chain names its hook itself.
                    heading = event.hook if event.rule is not None or event.chain else ""
                if not matters and not self.full:
                    folded += 1
                    continue
                if heading:
                    page.put(heading, first=f"{before}  ", style="cyan")
                    heading = ""
                self.step(before, item.node, event)
                continue
            self.folds(before, folded, heading)
            folded, item.hook, heading = 0, "", ""
            if isinstance(event, Enter):
                item.node = event.node
                folder = self.folders.get(event.node)
                files = f"  (files in {folder}/)" if folder and not self.full else ""
                came = f", in by {event.iif}" if event.iif else ""
                page.put(f"{event.node}{came}{files}", first=before, rest=before, style="bold")
            elif isinstance(event, Leave):
                page.put(f"out by {event.oif}" if event.oif else "to the next node", first=f"{before}  ")
            elif isinstance(event, End):
                way = self.ways[event.way]
                style = {"delivered": "green", "unknown": "yellow"}.get(way.verdict, "red")
                page.put(ending(way), first=f"{before}  ", rest=f"{before}    ", style=style)
        self.folds(before, folded, heading)

    def folds(self, before: str, count: int, heading: str) -> None:
        """How many rules are not shown; with the hook's name where none of it was."""
        if count:
            rules = f"{count}{'' if heading else ' more'} rule{'' if count == 1 else 's'} matched without effect"
            lead = f"{before}  {heading:<13}" if heading else f"{before}    "
            self.page.put(rules, first=lead, rest=before + " " * 15, style="dim")

    def step(self, before: str, node: str, step: Step) -> None:
        """One rule that matched, or one decision: chain, rule, place, and below what it changed and means."""
        page = self.page
        before = page.clean(before)
        what = page.clean(step.rule if self.full and step.rule else short(step))
        at = page.clean(self.place(node, step.at))
        if step.rule is None and not step.chain:
            left = f"  {page.clean(step.hook):<13}"
            indent = cells(left)
        else:
            left = f"    {page.clean(_chain(step))}"
            indent = max(self.chain_column + 6, 15)
        room = page.width - cells(before) - indent
        beside = room - (self.at_column + 2 if at else 0)
        # An option and its value stay on one line: "-j" alone at a line's end reads badly.
        whole = _OPTION.sub("\\1\0", what)
        if cells(left) > indent or beside < max(_RULE, *map(cells, whole.split(" "))):
            # No room side by side: what comes first and the place share a line, the rest follows.
            self.line(before, left.rstrip(), at)
            left, indent, at = "", 8, ""
            beside = page.width - cells(before) - indent
        left += " " * (indent - cells(left))
        room = page.width - cells(before) - indent
        details = self.details(step, room)
        if step.means and not step.changes:
            # A meaning may follow the rule, but is not torn apart.
            meaning = page.clean(details.pop(0)[0])
            whole += " " + (meaning.replace(" ", "\0") if cells(meaning) + 2 <= room else meaning)
        for number, text in enumerate(line.replace("\0", " ").rstrip() for line in wrap(whole, room, 2, beside)):
            self.line(before, (" " * indent if number else left) + text, "" if number else at)
        for text, style in details:
            page.put(text, first=before + " " * indent, rest=before + " " * (indent + 2), style=style)

    def details(self, step: Step, room: int) -> list[tuple[str, str]]:
        """What stands beside or below a rule, with styles: what it means, changed, and leaves open."""
        details = [(changed(name, change), "bold") for name, change in step.changes]
        if step.means:
            meaning = f"({step.means})"
            if len(details) == 1 and cells(details[0][0]) + cells(meaning) + 2 <= room:
                details = [(f"{details[0][0]}  {meaning}", "bold")]
            elif self.full or not details:  # a change mostly speaks for itself
                details.append((meaning, "dim"))
        return details + [(f"[{remark}]", "yellow") for remark in remarks(step)]

    def line(self, before: str, text: str, at: str) -> None:
        """A line with its place at the right edge, or below where there is no room."""
        page = self.page
        if cells(before) + cells(text) > page.width:
            page.put(text.lstrip(), first=f"{before}    ", rest=f"{before}      ")
            text = ""
        if not at:
            if text:
                page.raw(before + text)
            return
        if page.width >= UNLIMITED:
            page.raw(f"{before}{text}  {page.paint(at, 'dim')}")
            return
        gap = page.width - cells(before) - cells(text) - cells(at)
        if text and gap >= 2:
            page.raw(before + text + " " * gap + page.paint(at, "dim"))
        else:
            if text:
                page.raw(before + text)
            page.put(at, first=f"{before}        ", style="dim")

    def fork(self, item: _Item, parent: Branch) -> list[_Item]:
        """What follows a stretch: its branches, those that differ only in the endpoint told once."""
        groups: dict[object, list[Branch]] = {}
        for number, child in enumerate(parent.children):
            key = None if self.full else shape(child, self.ways)
            groups.setdefault(number if key is None else key, []).append(child)
        items: list[_Item] = []
        for group in groups.values():
            first, *others = group
            items.append(_Item("", "", self.heading(first, parent), first, item.node, item.hook))
            if len(others) <= 3:
                items += [_Item("", "", self.heading(one, parent, likewise=True), None) for one in others]
            else:
                items.append(_Item("", "", self.crowd(others), None))
        for item_below in items:
            last = item_below is items[-1]
            item_below.first = item.before + ("  └─ " if last else "  ├─ ")
            # Deeper than a third of the page, forks no longer indent: their headings still tell them apart.
            deep = cells(item.before) > self.page.width // 3
            item_below.before = item.before if deep else item.before + ("     " if last else "  │  ")
        return items

    def heading(self, branch: Branch, parent: Branch, likewise: bool = False) -> str:
        """Which packets take a branch, how many of them, and where it leads."""
        odds = total(self.ways, branch.ways)
        clauses = [f"if {clause}" for clause in conditions(self.ways, branch.ways, parent.ways)]
        words = [f"{', '.join(clauses)}:"] if clauses else []
        if odds is not None and not (clauses and odds == 1):
            words.append(chance(odds))
        ends = {self.ways[index].reached: None for index in branch.ways}
        if len(ends) == 1 and (reached := next(iter(ends))) is not None:
            words.append(f"to {where(reached)}")
        text = " ".join(words).removesuffix(":") or "or else"
        if likewise:
            text += f": the same way{self.through(branch)}"
        return text

    def through(self, branch: Branch) -> str:
        """The chain and line that tell a branch from its like: where the destination is rewritten."""
        for event, _ in branch.events:
            if isinstance(event, Step) and any(name == "dst" for name, _ in event.changes):
                place = f", {event.at}" if event.at else ""
                return f" through {event.chain or event.action}{place}"
        return ""

    def crowd(self, branches: Iterable[Branch]) -> str:
        """Many branches like the one before them."""
        members = [index for branch in branches for index in branch.ways]
        ends = [reached for index in members if (reached := self.ways[index].reached)]
        return (
            f"{chance(total(self.ways, members))} the same way to {len(ends)} more endpoints: "
            f"{listed([address(one.ip, one.port) for one in ends], 24)}"
        )


def _chain(step: Step) -> str:
    return f"{step.table} {step.chain}".strip()

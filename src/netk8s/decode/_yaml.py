"""The YAML that kubectl prints, as the values JSON would have, with the line each object starts on."""

from __future__ import annotations

import re
from collections.abc import Iterator

from netk8s.errors import DecodeError
from netk8s.model import At, Dump

_DEPTH = 200
_NUMBER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,18})")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


class YamlObject(dict[str, object]):
    """A mapping and the line, counted from 1, that it starts on."""

    __slots__ = ("line",)
    line: int


def documents(dump: Dump) -> Iterator[tuple[At, object]]:
    """The documents of a YAML dump with the place each starts at; empty documents are left out.

    Built from the parser's events instead of by ``yaml.load``: libyaml's own composer overflows the stack of the
    process on deep nesting, and merge keys multiply without bound. Neither aliases nor tags are taken, kubectl
    prints none. Scalars are read as in YAML 1.2's core schema, which is JSON's, so that ``no`` and dates stay text.
    Raises DecodeError.
    """
    import yaml  # only when a dump is YAML: importing it costs more than reading most dumps

    def wrong(why: str, line: int = 0) -> DecodeError:
        return DecodeError(dump.origin, line, f"{why}; take the dump with `kubectl get … -o json` or `-o yaml`")

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    stack: list[tuple[YamlObject | list[object], str | None]] = []
    """The open collections, a mapping with the key that waits for its value."""
    try:
        for event in yaml.parse(dump.data[:], Loader=loader):
            mark = getattr(event, "start_mark", None)
            line = mark.line + 1 if mark is not None else 0
            value: object
            if isinstance(event, yaml.AliasEvent):
                raise wrong("YAML with aliases is not read", line)
            if isinstance(event, yaml.ScalarEvent):
                value = event.value if event.style in ("'", '"', "|", ">") else _plain(event.value)
            elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                if len(stack) >= _DEPTH:
                    raise wrong("the YAML is nested too deeply", line)
                opened: YamlObject | list[object] = YamlObject() if isinstance(event, yaml.MappingStartEvent) else []
                if isinstance(opened, YamlObject):
                    opened.line = line
                if stack and isinstance(stack[-1][0], YamlObject) and stack[-1][1] is None:
                    raise wrong("a key of a YAML mapping is not text", line)
                stack.append((opened, None))
                continue
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                value = stack.pop()[0]
            else:
                continue
            if not stack:
                if value is not None:
                    yield At(dump.origin, value.line if isinstance(value, YamlObject) else line), value
                continue
            holder, key = stack[-1]
            if isinstance(holder, list):
                holder.append(value)
            elif key is None:
                stack[-1] = (holder, event.value if isinstance(event, yaml.ScalarEvent) else "")
            else:
                holder[key] = value
                stack[-1] = (holder, None)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "the text is not UTF-8"
        if "nesting" in problem:  # libyaml's own bound, of some builds: its scanner reads ahead of the events
            problem = "the YAML is nested too deeply"
        raise wrong(f"not YAML ({problem})", mark.line + 1 if mark is not None else 0) from None
    except (ValueError, RecursionError) as error:
        # The reader of the pure Python loader, and bytes that only look like UTF-16.
        raise wrong(f"not YAML ({error})") from None


def _plain(text: str) -> object:
    """A scalar without quotes: null, a boolean, a whole number, else text."""
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    return int(text) if _NUMBER.fullmatch(text) else text

"""The routes of both families and the rules that choose a table, as ``ip -j route`` and ``ip -j rule`` print them."""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.collect._text import Gap, Text, command, first_of

NEEDED_FOR = "where the packet goes on"


def texts() -> Iterator[Text | Gap]:
    yield first_of("ip-route.json", command("ip", "-j", "route", "show", "table", "all"))
    yield first_of("ip6-route.json", command("ip", "-j", "-6", "route", "show", "table", "all"))
    yield first_of("ip-rule.json", command("ip", "-j", "rule"))
    yield first_of("ip6-rule.json", command("ip", "-j", "-6", "rule"))

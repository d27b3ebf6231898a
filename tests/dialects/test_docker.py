"""docker's chains on a node."""

from __future__ import annotations

from collections.abc import Callable

from netk8s.dialects import docker
from netk8s.model import Recognised, Trace, World

Made = Callable[..., World]
Components = Callable[[World], dict[str, Recognised]]

RULES = """\
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.1.1.9:80
COMMIT
*filter
:FORWARD DROP [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A DOCKER-USER -j RETURN
COMMIT
"""


def test_published_ports_and_the_forward_policy(
    world: Made, components: Components, asked: Callable[..., Trace], meanings: Callable[..., list[tuple[str, str]]]
) -> None:
    node = world(RULES, ["docker0"])
    assert components(node)[docker.NAME].enforces == ""
    trace = asked(node, "192.0.2.11:8080")
    assert [o.verdict for o in trace.outcomes] == ["dropped"]
    steps = meanings(trace)
    assert ("PREROUTING", "docker: published ports") in steps
    assert ("DOCKER", "docker: the container is the new destination") in steps
    assert ("FORWARD", "docker: rules for the admin's own") in steps

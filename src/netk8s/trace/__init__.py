"""Walks a flow through the hooks, node after node, and its answer back.

The kernel modules say what happens at a hook; these modules say which hook comes next (``_receiving``, ``_sending``,
``_passing``), who is at the other end of a link (``_link``), how a pod hangs on its node (``_pods``), and what becomes of
the answer (``_answer``). Each is a generator: it takes a branch and yields finished walks, and what is to be walked next.
"""

from __future__ import annotations

from netk8s import outcomes
from netk8s.model import Flow, Trace, Way, World
from netk8s.surroundings import Surroundings
from netk8s.trace import _answer, _walk
from netk8s.trace._state import Scene


def trace(world: World, flow: Flow, around: Surroundings | None = None) -> Trace:
    """The ways of a flow, folded into outcomes.

    ``around``: the surroundings of the flow where the caller has them, because it asks for many flows of one world.
    Raises DecodeError for a rule that cannot be decoded on the packet's way.
    """
    scene = Scene(flow, world.cluster, around or Surroundings(world, flow))
    ways: list[Way] = []
    for end in _walk.start(scene):
        ways.extend(_answer.finish(scene, end))
        flow = end.past.flow
    return outcomes.fold(flow, tuple(ways), world)

"""In which order a kernel calls what is registered at one priority, where the node's ``nft list hooks`` shows it.

Sources: Linux net/netfilter/nfnetlink_hook.c (from 5.14 on; the chains of the nat function are listed since
"netfilter: nfnetlink_hook: Dump nat type chains" of 2026, before that only the function itself); nft's src/mnl.c.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from netk8s.kernel.netns import Netns
from netk8s.model import At, Hook

IN_ORDER = 2
"""So many of one priority nft has always printed in the kernel's order. Of more, nft up to 1.1.6 prints the first in its
place and the others the wrong way round (basehook_list_add_tail); a text does not tell which nft printed it."""

Place = tuple[int, bool, At]
"""(rank among its like, whether it is certain, where it stands)."""


def places(
    netns: Netns, family: int, hook: str, priority: int, wanted: Sequence[Callable[[Hook], bool]]
) -> list[Place] | None:
    """The place of each of these at a hook and priority, None where the listing does not have every one of them."""
    word = "ip" if family == 4 else "ip6"
    listed = [h for h in netns.node.hooks if (h.family, h.hook, h.priority) == (word, hook, priority)]
    found: list[Place] = []
    for calls in wanted:
        place = next((n for n, entry in enumerate(listed) if calls(entry)), None)
        if place is None:
            return None
        certain = len(listed) <= IN_ORDER or place == 0
        found.append((place if certain else len(listed) - place, certain, listed[place].at))
    return found

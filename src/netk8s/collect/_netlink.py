"""The seam to pyroute2: imported where it is used, and its errors become ours."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from netk8s.collect._text import Source
from netk8s.errors import CollectError


def netlink(what: str, read: Callable[[], bytes]) -> Source:
    """A way that asks the kernel through pyroute2; ``what`` names the netlink family."""

    @wraps(read)
    def asked() -> bytes:
        with translated():
            return read()

    return Source(f"netlink ({what})", asked)


@contextmanager
def translated() -> Iterator[None]:
    """pyroute2 missing, the kernel's refusals and answers that pyroute2 cannot read, as CollectError."""
    try:
        yield
    except CollectError:
        raise
    except ImportError:
        raise CollectError("pyroute2 is not installed (pip install 'netk8s[agent]')") from None
    except Exception as error:
        # NetlinkError has the kernel's number; what else pyroute2 raises on an answer it does not know is its own affair.
        number = getattr(error, "code", None) or getattr(error, "errno", None)
        if isinstance(number, int) and number > 0:
            raise CollectError(os.strerror(number)) from None
        raise CollectError(f"the answer could not be read ({type(error).__name__}: {str(error)[:100]})") from None


def attribute(message: Any, name: str, default: Any = None) -> Any:
    """An attribute of a pyroute2 message or nested attribute, ``default`` where it is not there."""
    found = message.get_attr(name)
    return default if found is None else found

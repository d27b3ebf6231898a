# SPDX-License-Identifier: GPL-2.0-only
"""Active probes for netk8s: a program of its own that hands over a file. It imports nothing of netk8s."""

__version__ = "0.1.0"

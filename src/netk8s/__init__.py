"""netk8s: where does this packet go, who changed its source address, and why does it not arrive?"""

__version__ = "0.1.0"

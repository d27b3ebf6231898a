"""Live only: what this node says of itself, in the formats of the field's own tools, and its kernel's trace.

One reader per file. Nothing here is imported by anything that works offline.
"""

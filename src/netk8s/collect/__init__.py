"""Live only: what the node this runs on says of itself, in the formats of the field's own tools, and what its kernel does.

One reader per file. Nothing here is imported by anything that works offline.
"""

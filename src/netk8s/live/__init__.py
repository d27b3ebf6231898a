"""A running cluster: its objects from the API server, its nodes' state from the agents, as far as a question needs.

What comes of both is a snapshot as any dump is, so everything behind it is the same as offline.
"""

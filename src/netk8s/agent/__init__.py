"""The DaemonSet's process: hands out the state of its node to those who may have it, and answers beside the data.

It reads and never writes a rule. Who asks is told by the API server (TokenReview), and so is whether he may
(SubjectAccessReview); the agent itself decides nothing and has no other right there.
"""

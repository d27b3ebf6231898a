"""The lab: clusters made of network namespaces, and the Linux kernel as the judge of what netk8s predicts.

Plain modules, usable without pytest::

    PYTHONPATH=tests python -m lab.differential --pairs 200

Every namespace here is anonymous: it belongs to one forked process (:mod:`.agent`) and is gone when that process is,
however it ends. So nothing has to be reaped, not even after ``kill -9`` of a test run.
"""

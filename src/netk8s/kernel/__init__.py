"""What the kernel does to a packet at each hook. Knows packets and rules, and no Kubernetes.

Modules are named as the parts of the packet walk: ``iptables`` (one table at one hook), ``matches``, ``targets``,
``conntrack``, ``routing``, ``masquerade``, ``links``, ``netns`` (one node's view that the others ask), ``hooks``
(priorities: which table is asked when).
"""

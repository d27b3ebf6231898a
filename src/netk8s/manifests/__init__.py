"""The manifests of daemonset/overlays as kustomize renders them: ``make manifests`` writes them."""

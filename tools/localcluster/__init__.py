"""A real Kubernetes on one machine: etcd, API server, controller manager and scheduler, with kwok for the nodes.

The demo, the tests and the benchmarks run against it when KUBECONFIG names no cluster. Nothing in it is a mock except
what a node does: pods become Running and Jobs complete without a container. README.md beside this file says what that
hides.

Callers use two modules: `cluster` (obtain, up, down, reset, status) and `binaries` (helm). Nothing here imports
Pilothouse.
"""

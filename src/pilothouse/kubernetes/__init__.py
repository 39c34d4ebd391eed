"""Kubernetes clusters: what a kubeconfig may say, the few questions we ask, and Helm's release Secrets."""

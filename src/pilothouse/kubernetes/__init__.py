"""Kubernetes clusters: kubeconfigs, the few requests that we make, and Helm's release Secrets."""

"""What can go wrong with the local cluster, each with a text that says what to do."""


class LocalClusterError(Exception):
    """Base of every failure that the person can act on; its text is meant to be shown as it is."""


class ToolchainError(LocalClusterError):
    """No usable Go was found, and none could be installed."""


class BuildError(LocalClusterError):
    """The Go toolchain could not build a program."""


class CacheError(LocalClusterError):
    """The folder for built programs cannot be written."""


class StartError(LocalClusterError):
    """A component stopped or stayed unready while the cluster was being started."""


class FolderError(LocalClusterError):
    """The cluster's data folder cannot be used."""


class KubeconfigError(LocalClusterError):
    """KUBECONFIG names no file that exists, or the local cluster has none yet."""

"""Words of helm that are none of ours, with what there is in their place: docs/helm-flags.md says the same."""

from collections.abc import Sequence
from typing import Final

_SOURCE: Final = (
    "a source (pilothouse source add) has the address, credentials, authority and the keys that verify its charts"
)
_DEVEL: Final = 'ranges choose prereleases (--version ">0.0.0-0")'
_OF_SOURCES: Final = (
    "--ca-file, --cert-file, --insecure-skip-tls-verify, --key-file, --keyring, --pass-credentials, "
    "--password, --plain-http, --repo, --username, --verify"
)
_OF_WRITES: Final = (
    "--create-namespace, --description, --disable-openapi-validation, --force-conflicts, --force-replace, "
    "--labels, --replace, --rollback-on-failure, --server-side, --skip-crds, --take-ownership, --timeout, --wait, "
    "--wait-for-jobs"
)
_DEPENDENCIES: Final = "helm dependency update fetches the charts of charts/"
_CHARTS: Final = "install, upgrade, template, pull, show all, show chart, show crds, show readme, show values"

#: Helm's commands; the longer of two that fit counts.
COMMANDS: Final = {
    "create": "helm create makes the folder of a chart, which every command here takes",
    "dependency": "helm dependency build fills charts/, which is packed with the chart",
    "help": "pilothouse COMMAND -h",
    "package": "a folder is packed where it is used; pilothouse chart upload FOLDER keeps it for the project",
    "plugin": "the server runs no programs of others",
    "push": "pilothouse chart push CHART oci://HOST/FOLDER",
    "registry": "pilothouse source add NAME oci://HOST/FOLDER --username USER",
    "repo": "pilothouse source",
    "repo add": "pilothouse source add NAME URL",
    "repo index": "helm repo index writes the index of an HTTP repository",
    "repo list": "pilothouse source list",
    "repo remove": "pilothouse source remove NAME",
    "repo update": "pilothouse source sync NAME",
    "search hub": "pilothouse search WORD, in the sources of the project",
    "search repo": "pilothouse search WORD",
    "verify": "pilothouse source add NAME URL --verify HOW --keys FILE; the server verifies what it pulls",
}
#: What people try who know other command lines.
_OWN: Final = {
    "dep": "helm dependency build fills charts/, which is packed with the chart",
    "init": "nothing has to be set up here; pilothouse login URL makes the log-in",
    "release list": "pilothouse list",
    "chart remove": "pilothouse chart delete CHART",
    "cluster delete": "pilothouse cluster remove CLUSTER",
    "context delete": "pilothouse context remove NAME",
    "source delete": "pilothouse source remove SOURCE",
    "webhook delete": "pilothouse webhook remove WEBHOOK",
    "unlock": "pilothouse release unlock NAME --reason TEXT",
    "whoami": "pilothouse env",
    "logout": "pilothouse context remove NAME",
    "follow": "pilothouse operation follow OPERATION",
    "cancel": "pilothouse operation cancel OPERATION",
}
#: Flags of all commands.
SHARED: Final = {
    "--kube-context, --kubeconfig, --kube-apiserver, --kube-ca-file, --kube-token, --kube-tls-server-name, "
    "--kube-insecure-skip-tls-verify": "the server connects to the cluster; --cluster names it",
    "--kube-as-user, --kube-as-group": "rights are those of your roles at the server",
    "--qps, --burst-limit": "the server limits what it asks each cluster",
    "--registry-config, --repository-cache, --repository-config, --content-cache": (
        "charts come from the server and its sources"
    ),
    "--color, --colour": "nothing is coloured",
    "--debug": "the server's log has the details, under the request id of an error",
}
#: Commands, flags of theirs, and why they are not here.
FLAGS: Final = (
    ("list", "--selector, -l", "the index of releases holds no labels; get metadata shows them"),
    ("list", "--time-format", "times are one word, 2026-01-31T12:00:00Z; JSON has milliseconds"),
    ("history", "--show-rollback-revision", 'the description says "Rollback to N"'),
    ("get all", "--template", "-o json and jq"),
    (_CHARTS, _OF_SOURCES, _SOURCE),
    (_CHARTS, "--devel", _DEVEL),
    ("search", "--version", "-l lists all versions; install, upgrade, pull and show take a range"),
    ("search", "--regexp, -r", "words are found in names, descriptions and keywords, whatever stands around them"),
    ("search", "--fail-on-no-result", "-o json prints [] if there is none"),
    ("search", "--max-col-width", "a table has the width of the terminal, or none if it is piped"),
    ("version", "--short, --template", "the number is all that is printed"),
    ("completion", "--no-descriptions", "bash shows none; zsh and fish leave them out by a setting of theirs"),
    ("pull", "--untar, --untardir", "tar xzf unpacks the archive"),
    ("pull", "--prov", "the server verifies what it pulls (pilothouse source add --verify)"),
    ("install, upgrade", "--dependency-update", _DEPENDENCIES),
    ("install, upgrade", "--disable-openapi-validation", "the API server validates what is applied"),
    ("install, upgrade", "--enable-dns", "templates that run at the server look up no host names"),
    (
        "install, upgrade",
        "--post-renderer, --post-renderer-args",
        "the server runs no programs of others; put the change into the chart",
    ),
    ("install, upgrade", "--render-subchart-notes", "notes are those of the chart"),
    (
        "install, upgrade, rollback",
        "--server-side",
        "as Helm's default: server-side, for releases that were made so",
    ),
    (
        "rollback",
        "--cleanup-on-fail",
        "a rollback that fails keeps what it has created, as Helm's does without the flag",
    ),
    ("rollback", "--description", 'an interrupted rollback is known by Helm\'s own text, "Rollback to N"'),
    ("install", "--replace", "the name of an uninstalled release is free again"),
    ("template", _OF_WRITES, "they change nothing that is printed"),
    ("template", "--dependency-update", _DEPENDENCIES),
    ("template", "--dry-run", "no cluster is asked"),
    ("template", "--output-dir, --release-name", "redirect the output: > manifest.yaml"),
    ("template", "--post-renderer, --post-renderer-args", "pipe the output through it"),
)

_PLANS: Final = "pilothouse plan NAME CHART shows what an upgrade would change"
#: Flags of other versions of helm, of its plugins, and of other commands here.
_OWN_FLAGS: Final = (
    ("template", "--validate", "no cluster is asked; pilothouse plan asks it"),
    ("status", "--show-resources", "pilothouse get resources NAME"),
    ("status", "--show-desc", "the description is shown"),
    ("chart upload", "--replace, --force", "--override puts it in the place of one of the same version"),
    ("upgrade", "--recreate-pods", "kubectl rollout restart restarts pods"),
    ("uninstall", "--purge", "the history goes, unless --keep-history is given"),
    ("test", "--cleanup", "the chart says by helm.sh/hook-delete-policy when its tests are removed"),
    ("diff", "--set, --set-string, --set-file, --set-json, --values, -f, --reuse-values, --install, --version", _PLANS),
)


def command_hint(words: Sequence[str]) -> str:
    """Return what there is in place of the command that these words begin with, helm's or another; empty if nothing."""
    both = " ".join(words[:2])
    return COMMANDS.get(both) or COMMANDS.get(words[0], "") or _OWN.get(words[0], "")


def inner_hint(group: str, word: str) -> str:
    """Return what there is in place of that command of a group; empty if nothing."""
    return _OWN.get(f"{group} {word}", "")


def flag_hint(command: str, flag: str) -> str:
    """Return what there is in place of a flag of that command of helm; empty if helm has no such flag."""
    own = (
        why
        for commands, flags, why in (*FLAGS, *_OWN_FLAGS)
        if command in commands.split(", ") and flag in flags.split(", ")
    )
    shared = (why for flags, why in SHARED.items() if flag in flags.split(", "))
    return next(own, "") or next(shared, "")

"""Templates of hooks and Deployments whose fate the simulated nodes are told."""


def hook_template(
    event: str, *, fate: str, policy: str = "before-hook-creation", kind: str = "Job", name: str = "hook"
) -> str:
    """Return a hook ``<release>-<name>``: a Job, or a bare Pod, that does what ``pilothouse.dev/simulate`` says."""
    pod = "spec: {restartPolicy: Never, containers: [{name: main, image: example.invalid/hook:1}]}"
    simulate = f"pilothouse.dev/simulate: {fate}"
    annotations = f"helm.sh/hook: '{event}', helm.sh/hook-delete-policy: '{policy}'"
    if kind == "Pod":
        return f"""\
apiVersion: v1
kind: Pod
metadata: {{name: "{{{{ .Release.Name }}}}-{name}", annotations: {{{annotations}, {simulate}}}}}
{pod}
"""
    return f"""\
apiVersion: batch/v1
kind: Job
metadata: {{name: "{{{{ .Release.Name }}}}-{name}", annotations: {{{annotations}}}}}
spec:
  backoffLimit: 0
  template:
    metadata: {{annotations: {{{simulate}}}}}
    {pod}
"""


def deployment_template(name: str = "web", *, fate: str = "''", replicas: int = 1, selector: str = "{}") -> str:
    """Return a Deployment ``<release>-<name>``; ``selector`` is the pods' node selector."""
    return f"""\
apiVersion: apps/v1
kind: Deployment
metadata: {{name: "{{{{ .Release.Name }}}}-{name}"}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: "{{{{ .Release.Name }}}}-{name}"}}}}
  template:
    metadata: {{labels: {{app: "{{{{ .Release.Name }}}}-{name}"}}, annotations: {{pilothouse.dev/simulate: {fate}}}}}
    spec: {{nodeSelector: {selector}, containers: [{{name: main, image: "example.invalid/web:1"}}]}}
"""

"""``pilothouse doctor``: reports problems of an installation and what to do about them."""

from dataclasses import asdict

import typer

from pilothouse.cli.output import As, Output, print_answer
from pilothouse.cli.terminal import echo


def doctor(output: As = Output.TABLE) -> None:
    """Check everything that a server needs on this machine. Changes nothing; exit status 1 if a check fails."""
    import asyncio

    from pilothouse.cli.checks import examine
    from pilothouse.cli.configuration import read_settings
    from pilothouse.cli.findings import Finding, State
    from pilothouse.cli.logs import configure_quiet_logs
    from pilothouse.errors import InvalidSettings

    try:
        settings = read_settings()
    except InvalidSettings as error:
        findings = [Finding("settings", State.FAILED, str(error))]
    else:
        configure_quiet_logs(settings)
        findings = asyncio.run(examine(settings))
    failed = any(finding.state is State.FAILED for finding in findings)
    if output is not Output.TABLE:
        print_answer({"healthy": not failed, "findings": [asdict(finding) for finding in findings]}, output)
    else:
        widest = max(len(finding.check) for finding in findings)
        for finding in findings:
            echo(f"{finding.state:8} {finding.check:{widest}}  {finding.found}")
            if finding.advice:
                echo(f"{'':8} {'':{widest}}  → {finding.advice}")
    raise typer.Exit(1 if failed else 0)

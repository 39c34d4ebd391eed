"""The rule that nothing may be forgotten: what acts for a caller names the permission that it takes."""

import ast
from pathlib import Path

import pilothouse.services

#: What a caller may do without a permission, and why.
FOR_EVERYBODY = {
    "AccessKeys.show": "one's own keys; others' by _find",
    "AccessKeys.check_change": "one's own keys; others' by _find",
    "AccessKeys.change": "one's own keys; others' by _find",
    "AccessKeys.remove": "one's own keys; others' by _find",
    "Idempotency.once": "by the write; who may no longer write is not told what came of it",
    "Idempotency.claim": "by the write that it belongs to",
    "Operations.list_evidence": "by show",
    "ask_again": "who the caller is; what it may is asked by who asks",
    "Standing.ask": "who the caller is; what it may is asked by who asks",
    "require_user": "a user of its own account, for what asks for a permission",
    "current_caller": "who the caller is; what it may is asked by who asks",
    "Projects.list_page": "those in which it has a role",
    "Projects.list_all": "those in which it has a role",
    "Projects.list_usable": "the caller's own",
    "Projects.show": "one in which it has a role",
    "Projects.create_in_region": "by create",
    "Sessions.find_own_id": "one's own",
    "Sessions.end": "one's own; others' by _of_whom",
    "Sessions.end_all": "one's own; others' by _of_whom",
    "Sessions.end_previous": "one's own",
    "sees_logs": "asks for one: whether the caller may read logs",
    "ChartPulls.find_source": "by who reads or changes the source; other names are for who may list them",
    "ReleaseView.add_resources": "by the read or write whose answer they are added to",
}


def unguarded() -> set[str]:
    """Public service functions with a caller that name no permission."""
    found = set()
    for file in Path(pilothouse.services.__file__).parent.rglob("*.py"):
        for owner in ast.parse(file.read_text()).body:
            for function in owner.body if isinstance(owner, ast.ClassDef) else [owner]:
                if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) or function.name.startswith("_"):
                    continue
                names = [one.arg for one in (*function.args.args, *function.args.kwonlyargs)]
                if "caller" in names and not names_a_permission(function):
                    name = f"{owner.name}.{function.name}" if isinstance(owner, ast.ClassDef) else function.name
                    found.add(name)
    return found


def names_a_permission(function: ast.AST) -> bool:
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"require", "require_somewhere", "require_in_account"}
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "caller"
        for node in ast.walk(function)
    )


def test_every_service_function_that_acts_for_a_caller_names_a_permission():
    assert unguarded() == set(FOR_EVERYBODY)

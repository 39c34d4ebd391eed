"""The words for states and actions stand in one module."""

import ast
import re
from collections.abc import Iterator

from pilothouse.states import Action, DeliveryState, OperationState, ReleaseStatus
from tests.support.source_code import modules

WORDS = frozenset({*Action, *OperationState, *ReleaseStatus}) - {ReleaseStatus.UNKNOWN}
#: Where the same words mean something else.
OTHER_WORDS = {
    "kubernetes/readiness.py": {"running", "succeeded"},  # Kubernetes' own, of containers and Jobs
    "cli/__init__.py": {*Action},  # names of commands
    "cli/commands/webhook.py": {"test"},  # a command, which sends a message
    "cli/commands/test.py": {"test"},  # a part of a path, and an event of Helm's
    "cli/writes.py": {"test"},  # a check
    "cli/commands/rollback.py": {"rollback"},  # parts of paths and bodies of the API
    "cli/mcp_tools.py": {"rollback"},  # likewise
    "cli/helm_words.py": {"install", "rollback", "test", "uninstall", "upgrade"},  # names of helm's commands
    "cli/commands/diff.py": {"rollback", "upgrade"},  # those of helm's plugin
    "cli/completion.py": {"test"},  # an event of Helm's
    "cli/checks.py": {"running"},  # of the database server
    "console/words.py": {"failed"},  # outcomes of the audit
    "kubernetes/stored_hooks.py": {"test"},  # an event of Helm's
    "services/releases/commands.py": {"test"},  # a check
    "services/releases/preflight.py": {"install", "upgrade"},  # in the text of an error
    "worker/lease.py": {"failed"},  # a renewal
    "worker/webhooks/messages.py": {"succeeded", "failed"},  # verbs of a message
    "store/tables/operations.py": {
        *OperationState
    },  # conditions of indexes, which alembic compares with the database's
}


def strings(tree: ast.AST) -> Iterator[ast.Constant]:
    """Every text of the module but those in the bodies of enumerations."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "StrEnum" for base in node.bases):
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node
        yield from strings(node)


def test_no_state_or_action_is_a_literal_elsewhere():
    literals = [
        f"{name}:{node.lineno} {node.value!r}"
        for name, tree in modules().items()
        for node in strings(tree)
        if node.value in WORDS - OTHER_WORDS.get(name, set())
    ]
    assert literals == []


def test_statements_in_sql_compare_with_words_that_there_are():
    compared = [
        (column, word)
        for name, tree in modules().items()
        if name.startswith("store/")
        for node in strings(tree)
        for column, words in re.findall(r"\b(state|action) (?:=|<>|IN) (\([^)]*\)|'[^']*')", str(node.value))
        for word in re.findall(r"'([^']*)'", words)
    ]
    assert len(compared) > 20
    words = {"state": {*OperationState, *DeliveryState}, "action": {*Action}}
    rights = [word for column, word in compared if column == "action" and ":" in word]  # what rows of the audit have
    assert [(column, word) for column, word in compared if word not in {*words[column], *rights}] == []


def test_every_end_of_an_operation_is_written_by_one_function_and_reported_by_another():
    """An end that is written elsewhere forgets the order, the notification or the log."""
    writers, reporters = [], []
    for name, tree in modules().items():
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            keys = {
                key.value
                for node in ast.walk(function)
                if isinstance(node, ast.Dict)
                for key in node.keys
                if isinstance(key, ast.Constant)
            }
            if {"finished_at", "status_description"} <= keys and name.startswith("store/"):
                writers.append(f"{name} {function.name}")
            if any(node.value == "operation_ended" for node in strings(function)):
                reporters.append(f"{name} {function.name}")
        if name.startswith("store/"):
            calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
            updates = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "values"]
            writers += [name for call in updates if any(one.arg == "finished_at" for one in call.keywords)]
            writers += [name for node in strings(tree) if re.search(r"\bfinished_at = (?!:)", str(node.value))]
    assert writers == ["store/operations.py ending"]
    assert reporters == ["services/operations/ends.py report_end"]

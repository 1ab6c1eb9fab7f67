"""Old code runs on the new schema while an upgrade is under way: migrations only ever add.

Each migration after the first release's is read, and a step that the code before it could not live
with fails here. A migration that takes away what no released code uses any more says so:
``contracts = "why the version before does not need it"``. ``benchmarks/old_code.py`` runs an
earlier revision of the code on the newest schema, where its history is at hand.
"""

import ast
from collections.abc import Container, Iterator
from pathlib import Path

import pytest

from tests.portal import REPOSITORY

# Installations begin at or after this revision.
FIRST = "0020"
MIGRATIONS = sorted(
    path
    for path in (REPOSITORY / "migrations" / "versions").glob("[0-9]*.py")
    if path.name[:4] > FIRST
)
REMOVE = frozenset({"drop_column", "drop_table", "rename_table"})
NARROW = frozenset(
    {"create_unique_constraint", "create_check_constraint", "create_exclude_constraint"}
)
RAW = ("DROP TABLE", "DROP COLUMN", "RENAME", "SET NOT NULL", "ALTER TYPE")


def contracting(source: str) -> Iterator[str]:
    """What a migration's ``upgrade`` does that code before it may not live with."""
    module = ast.parse(source)
    if any(isinstance(one, ast.Assign) and _target(one) == "contracts" for one in module.body):
        return
    undone = {
        id(inner)
        for one in module.body
        if isinstance(one, ast.FunctionDef) and one.name == "downgrade"
        for inner in ast.walk(one)
    }
    calls = [one for one in ast.walk(module) if isinstance(one, ast.Call) and id(one) not in undone]
    new = {_text(call, 0) for call in calls if _name(call) == "create_table"}
    for call in calls:
        yield from _faults(call, new)


def _faults(call: ast.Call, new: Container[str | None]) -> Iterator[str]:
    """What is wrong with one step; ``new`` are the tables that the same migration makes."""
    name, words = _name(call), {one.arg: one.value for one in call.keywords}
    if name in REMOVE:
        yield f"{name}: the old code still reads it"
    elif name in NARROW or (name == "create_index" and _is(words.get("unique"), True)):
        if _text(call, 1) not in new:
            yield f"{name}: the old code may break it"
    elif name == "alter_column":
        if _is(words.get("nullable"), False) or {"new_column_name", "type_"} & set(words):
            yield "alter_column: the old code writes what was allowed before"
    elif name == "add_column" and _text(call, 0) not in new and _is_demanding(call):
        yield "add_column: NOT NULL without server_default, which old code leaves out"
    elif name == "execute":
        yield from (f"execute: {word}" for word in RAW if word in _words_of(call))


def _words_of(call: ast.Call) -> str:
    return " ".join(
        one.value.upper()
        for one in ast.walk(call)
        if isinstance(one, ast.Constant) and isinstance(one.value, str)
    )


def _is_demanding(call: ast.Call) -> bool:
    for column in (one for one in ast.walk(call) if isinstance(one, ast.Call)):
        if _name(column) == "Column":
            words = {one.arg: one.value for one in column.keywords}
            return _is(words.get("nullable"), False) and "server_default" not in words
    return False


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


def _text(call: ast.Call, place: int) -> str | None:
    if len(call.args) <= place or not isinstance(call.args[place], ast.Constant):
        return None
    return str(call.args[place].value)  # type: ignore[attr-defined]


def _is(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _target(assigned: ast.Assign) -> str:
    (target,) = assigned.targets
    return target.id if isinstance(target, ast.Name) else ""


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda one: one.stem)
def test_migration_only_adds(path: Path) -> None:
    assert list(contracting(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "step",
    [
        'op.drop_column("study", "uid")',
        'op.rename_table("study", "exam")',
        'op.add_column("study", sa.Column("x", sa.Integer(), nullable=False))',
        'op.alter_column("study", "uid", nullable=False)',
        'op.alter_column("study", "uid", new_column_name="uid2")',
        'op.create_unique_constraint("uq", "study", ["uid"])',
        'op.create_index("ix", "study", ["uid"], unique=True)',
        'op.execute("ALTER TABLE study DROP COLUMN uid")',
        'with op.batch_alter_table("study") as batch:\n        batch.drop_column("uid")',
    ],
)
def test_step_that_takes_away_is_found(step: str) -> None:
    source = f"def upgrade():\n    {step}\n\ndef downgrade():\n    pass\n"
    assert list(contracting(source))
    assert not list(contracting(f'contracts = "unused since 0.1"\n{source}'))


def test_step_that_adds_is_let_through() -> None:
    source = """
def upgrade():
    op.create_table("x", sa.Column("id", sa.Integer(), nullable=False))
    op.create_unique_constraint("uq", "x", ["id"])
    op.add_column("study", sa.Column("y", sa.Integer(), nullable=True))
    op.add_column("study", sa.Column("z", sa.Integer(), nullable=False, server_default="0"))
    op.create_index("ix", "study", ["y"])

def downgrade():
    op.drop_index("ix")
    op.drop_table("x")
"""
    assert not list(contracting(source))

"""``flask users`` and ``flask tokens`` keep their contract: output and exit codes."""

from collections.abc import Callable

import pytest
from click.testing import Result
from flask import Flask

from tests.factories import Account
from webapp.accounts import operations
from webapp.accounts.models import Role

PASSWORD = "correct horse staple"


def run(app: Flask, *arguments: str, stdin: str = "") -> Result:
    return app.test_cli_runner().invoke(args=list(arguments), input=stdin)


def create(app: Flask, email: str, *options: str, password: str = PASSWORD) -> Result:
    arguments = ["users", "create", email, "--password-stdin", *options]
    return run(app, *arguments, stdin=password + "\n")


@pytest.mark.parametrize("role", Role)
def test_an_account_can_be_made_and_used(app: Flask, role: Role) -> None:
    done = create(app, "Anna@X.example", "--role", role.value)
    assert done.exit_code == 0, done.output
    assert PASSWORD not in done.output
    with app.app_context():
        user = operations.sign_in(email="anna@x.example", password=PASSWORD)
        assert (user.role, user.organisation.name) == (role, "Default")


def test_the_organisation_is_made_if_it_is_new(app: Flask) -> None:
    for email in ("a@x.example", "b@x.example"):
        done = create(app, email, "--role", "admin", "--organisation", "Klinik", "--name", "Ä B")
        assert done.exit_code == 0
    listed = run(app, "users", "list")
    assert [line.split("\t")[:4] for line in listed.stdout.splitlines()] == [
        ["a@x.example", "admin", "Klinik", "active"],
        ["b@x.example", "admin", "Klinik", "active"],
    ]


def test_what_goes_wrong_is_one_line_and_exit_code_1(app: Flask) -> None:
    assert create(app, "a@x.example", "--role", "admin").exit_code == 0
    for done in (
        create(app, "a@x.example", "--role", "admin"),
        create(app, "nonsense", "--role", "admin"),
        create(app, "b@x.example", "--role", "admin", password="short"),
        run(app, "tokens", "create", "nobody@x.example"),
        run(app, "tokens", "list", "nobody@x.example"),
        run(app, "users", "set-password", "nobody@x.example", "--password-stdin", stdin="x\n"),
    ):
        assert done.exit_code == 1
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith("Error: ")
        assert done.stdout == ""


def test_bad_usage_is_exit_code_2(app: Flask) -> None:
    for arguments in (
        ["users", "create"],
        ["users", "create", "a@x.example", "--password-stdin"],
        ["users", "create", "a@x.example", "--password-stdin", "--role", "owner"],
        ["users", "create", "a@x.example", "--role", "admin"],
        ["users", "set-password", "a@x.example"],
        ["tokens", "create"],
    ):
        assert run(app, *arguments).exit_code == 2, arguments


def test_a_token_is_printed_alone_on_one_line(
    app: Flask, make_user: Callable[..., Account]
) -> None:
    account = make_user()
    done = run(app, "tokens", "create", account.email, "--name", "PACS bridge")
    assert done.exit_code == 0
    (token,) = done.stdout.splitlines()
    with app.app_context():
        user = operations.user_of_token(token)
        assert user is not None
        assert user.id == account.id
    listed = run(app, "tokens", "list", account.email).stdout
    assert listed.startswith("PACS bridge\t")
    assert token not in listed


def test_a_password_can_be_set(app: Flask, make_user: Callable[..., Account]) -> None:
    account = make_user()
    done = run(
        app, "users", "set-password", account.email, "--password-stdin", stdin="a new sentence\n"
    )
    assert done.exit_code == 0
    with app.app_context():
        assert operations.sign_in(email=account.email, password="a new sentence")


def test_commands_explain_themselves(app: Flask) -> None:
    for command in (["users"], ["tokens"], ["users", "create"], ["tokens", "create"]):
        assert run(app, *command, "--help").exit_code == 0

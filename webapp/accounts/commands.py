"""The command line: ``flask --app wsgi users …`` and ``flask --app wsgi tokens …``."""

import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import click
from flask.cli import AppGroup

from webapp.accounts import operations, queries
from webapp.accounts.models import Role, Scope
from webapp.commandline import told_in_one_line
from webapp.tenancy import unscoped

Command = TypeVar("Command", bound=Callable[..., Any])

users = AppGroup("users", help="Make and list accounts.")
tokens = AppGroup("tokens", help="Make and list tokens of the API.")


def _password_option(command: Command) -> Command:
    # A password on the command line would appear in the process list and in the shell history.
    option = click.option(
        "--password-stdin", is_flag=True, help="Read the password from standard input, one line."
    )
    marked: Command = option(command)
    return marked


@users.command("create")
@click.argument("email")
@click.option("--role", type=click.Choice([role.value for role in Role]), required=True)
@click.option(
    "--organisation",
    default=operations.DEFAULT_ORGANISATION,
    show_default=True,
    help="Made if it is new.",
)
@click.option("--name", default="", help="By default the part of EMAIL before the @.")
@_password_option
def create_user(
    email: str, role: str, organisation: str, name: str, *, password_stdin: bool
) -> None:
    """Make an account for EMAIL."""
    with told_in_one_line():
        user = operations.create_user(
            email=email,
            role=Role(role),
            organisation=organisation,
            name=name,
            password=_password(password_stdin=password_stdin),
        )
        click.echo(f"{user.email} is now a {user.role.value} of {user.organisation.name}.")


@users.command("list")
def list_users() -> None:
    """List all accounts: address, role, organisation, state, last sign-in."""
    with told_in_one_line(), unscoped():
        for user in queries.list_users():
            state = "active" if user.is_active else "closed"
            click.echo(
                "\t".join(
                    [
                        user.email,
                        user.role.value,
                        user.organisation.name,
                        state,
                        _moment(user.last_seen_at),
                    ]
                )
            )


@users.command("set-password")
@click.argument("email")
@_password_option
def set_password(email: str, *, password_stdin: bool) -> None:
    """Set a new password for EMAIL, who is signed out everywhere."""
    with told_in_one_line():
        password = _password(password_stdin=password_stdin)
        user = operations.set_password(email=email, password=password)
        click.echo(f"{user.email} has a new password.")


@tokens.command("create")
@click.argument("email")
@click.option("--name", default="command line", show_default=True, help="What it is for.")
@click.option(
    "--days",
    type=click.Choice([str(days) for days in operations.TOKEN_DAYS]),
    default=str(operations.DEFAULT_TOKEN_DAYS),
    show_default=True,
    help="After how many it expires.",
)
@click.option(
    "--scope",
    type=click.Choice([scope.value for scope in Scope]),
    default=Scope.WRITE.value,
    show_default=True,
    help="What it may do.",
)
def create_token(email: str, name: str, days: str, scope: str) -> None:
    """Print a new token that acts for EMAIL. It is shown this once."""
    with told_in_one_line():
        user = queries.find_user_by_address(email)
        _row, token = operations.create_token(
            user=user, name=name, days=int(days), scope=Scope(scope)
        )
        click.echo(token)


@tokens.command("list")
@click.argument("email")
def list_tokens(email: str) -> None:
    """List the tokens that act for EMAIL: name, made, last used, expires, scope."""
    with told_in_one_line():
        for row in queries.list_tokens(queries.find_user_by_address(email)):
            moments = (row.created_at, row.last_used_at, row.expires_at)
            click.echo("\t".join([row.name, *map(_moment, moments), row.scope.value]))


def _password(*, password_stdin: bool) -> str:
    if not password_stdin:
        raise click.UsageError("The password is read from standard input: add --password-stdin.")
    return sys.stdin.readline().rstrip("\r\n")


def _moment(moment: datetime | None) -> str:
    return moment.isoformat(timespec="seconds") if moment else "never"

"""Organisations, users, invitations and API tokens."""

import email_validator
from flask import Flask


def init_app(app: Flask) -> None:
    """Add the pages and the command line."""
    # Imported here: the views need webapp.accounts.access, which needs this package's models.
    from webapp.accounts.commands import tokens, users
    from webapp.accounts.views import blueprint

    # Addresses are only sign-in names here, and a hospital's internal domain may end in .local.
    email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()
    app.register_blueprint(blueprint)
    app.cli.add_command(users)
    app.cli.add_command(tokens)

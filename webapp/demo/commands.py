"""The command line: ``flask --app wsgi demo seed``."""

import click
from flask.cli import AppGroup

from webapp.demo import operations
from webapp.extensions import current_settings

demo = AppGroup("demo", help="A portal to look around in.")


@demo.command("seed")
@click.option("--wait", is_flag=True, help="Until every sample has its answer.")
def seed(wait: bool) -> None:
    """Make the demo account and submit the sample slices."""
    user, password = operations.demo_account()
    count = operations.submit_samples(user)
    if wait:
        left = operations.wait_until_finished(user, seconds=300)
        state = (
            f"{left} of {count} sample studies still wait for the worker"
            if left
            else (f"all {count} sample studies are classified")
        )
        click.echo(f"Demo: {state}.")
    settings = current_settings()
    where = settings.public_url or "the portal"
    click.echo(f"Demo: sign in at {where} as {operations.EMAIL} with the password {password}")

"""Addresses of RabbitMQ lead to our transport; tests/integration/test_brokers.py drives it."""

import pytest

from webapp.rabbitmq import celery_url


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("amqp://a:b@host:5672//", "rabbitmq://a:b@host:5672//"),
        ("amqps://host/portal", "rabbitmqs://host/portal"),
        ("amqp://one//;amqp://two//", "rabbitmq://one//;rabbitmq://two//"),
        ("redis://host:1/0", "redis://host:1/0"),
    ],
)
def test_address_for_celery(given: str, found: str) -> None:
    assert celery_url(given) == found

"""Passwords are hard to guess, hashed with Argon2id, and checked in even time."""

import pytest
from argon2 import PasswordHasher

from webapp.accounts.passwords import (
    check_rules,
    hash_password,
    is_outdated,
    matches,
)
from webapp.errors import InvalidInput

GOOD = "correct horse staple"


@pytest.mark.parametrize(
    "password",
    [
        "short",
        "123456789",
        "x" * 201,
        "1234567890",
        "Password123",
        "aaaaaaaaaaaa",
        "anna@hospital.example",
        "anna.hospital",
        "Anna Hospital",
    ],
)
def test_a_password_that_is_easily_guessed_is_refused(password: str) -> None:
    email = "anna.hospital@x.example" if password == "anna.hospital" else "anna@hospital.example"
    with pytest.raises(InvalidInput) as refused:
        check_rules(password, email=email, name="Anna Hospital")
    assert set(refused.value.fields) == {"password"}


@pytest.mark.parametrize(
    "password", [GOOD, "ten-chars!", "Zürich im Regen", "🧠 brain brain", "x7yz" * 50]
)
def test_other_passwords_are_taken(password: str) -> None:
    check_rules(password, email="anna@hospital.example", name="Anna")


def test_the_hash_is_argon2id_and_salted() -> None:
    first, second = hash_password(GOOD), hash_password(GOOD)
    assert first.startswith("$argon2id$")
    assert first != second
    assert matches(GOOD, first)
    assert not matches(GOOD + " ", first)


def test_an_unknown_user_matches_nothing() -> None:
    assert not matches("nobody has this password", None)
    assert not matches(GOOD, "not a hash")


def test_one_letter_typed_in_two_ways_is_one_letter() -> None:
    assert matches("cafe\u0301 au lait", hash_password("caf\u00e9 au lait"))


def test_a_hash_with_old_parameters_is_outdated() -> None:
    weak = PasswordHasher(time_cost=1, memory_cost=1024).hash(GOOD)
    assert is_outdated(weak)
    assert not is_outdated(hash_password(GOOD))

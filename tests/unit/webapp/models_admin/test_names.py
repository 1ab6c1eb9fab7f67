"""A model's name stands for one file alone."""

from flask import Flask

from webapp.models_admin.operations import register_model


def test_another_file_under_a_known_name_gets_the_beginning_of_its_hash(app: Flask) -> None:
    with app.app_context():
        first = register_model(name="vgg16-2026.11", sha256="a" * 64, card={})
        second = register_model(name="vgg16-2026.11", sha256="b" * 64, card={})
        assert first.name == "vgg16-2026.11"
        assert second.name == "vgg16-2026.11-" + "b" * 12
        assert register_model(name="vgg16-2026.11", sha256="a" * 64, card={}).id == first.id
        assert register_model(name="vgg16-2026.11", sha256="b" * 64, card={}).id == second.id


def test_long_names_stay_apart_too(app: Flask) -> None:
    with app.app_context():
        names = [register_model(name="n" * 80, sha256=digit * 64, card={}).name for digit in "abc"]
    assert len(set(names)) == 3
    assert all(len(name) <= 64 for name in names)

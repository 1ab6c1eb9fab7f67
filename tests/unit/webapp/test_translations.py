"""Every text of the portal has its words in every language that it offers."""

import gettext
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.pofile import read_po

from config import REPOSITORY
from webapp.languages import LANGUAGES

WEBAPP = REPOSITORY / "webapp"
KEYWORDS = DEFAULT_KEYWORDS | {"lazy_gettext": None, "_l": None}
TRANSLATED = [language for language in LANGUAGES if language != "en"]


def folder(language: str) -> Path:
    return WEBAPP / "translations" / language / "LC_MESSAGES"


def catalogue(language: str) -> Catalog:
    with (folder(language) / "messages.po").open("rb") as file:
        return read_po(file, locale=language)


@pytest.fixture(scope="module")
def texts() -> set[str]:
    """All texts in the code and the templates, plural forms by their singular."""
    with (WEBAPP / "babel.cfg").open() as file:
        methods, options = parse_mapping_cfg(file)
    found = extract_from_dir(WEBAPP, methods, options, keywords=KEYWORDS)
    messages = (message for _file, _line, message, _comments, _context in found)
    return {text if isinstance(text, str) else text[0] for text in messages}


@pytest.mark.parametrize("language", TRANSLATED)
def test_every_text_is_translated(language: str, texts: set[str]) -> None:
    translated = {
        message.id if isinstance(message.id, str) else message.id[0]
        for message in catalogue(language)
        if message.id
        and not message.fuzzy
        and (message.string if isinstance(message.string, str) else all(message.string))
    }
    assert not texts - translated, "run make translations and fill in what is new"


@pytest.mark.parametrize("language", TRANSLATED)
def test_placeholders_survive(language: str) -> None:
    wanted = catalogue(language)
    assert not [(m.id, error) for m in wanted for error in m.check(wanted)]


@pytest.mark.parametrize("language", TRANSLATED)
def test_compiled_catalogue_is_up_to_date(language: str) -> None:
    with (folder(language) / "messages.mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)
    for message in catalogue(language):
        if message.id and isinstance(message.id, str):
            assert compiled.gettext(message.id) == message.string

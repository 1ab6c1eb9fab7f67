"""The verbs of accounts: what they change, what they refuse, what they leave in the audit trail."""

from datetime import timedelta

import pytest
from argon2 import PasswordHasher
from flask import Flask
from sqlalchemy import func, select, update

from tests.factories import Account, make_api_token
from tests.unit.webapp.accounts.acting import PASSWORD, MakeUser, acting, actions, at_once
from webapp.accounts import operations, queries, sessions
from webapp.accounts.models import ApiToken, Organisation, Role, Scope, User
from webapp.audit import AuditEvent
from webapp.database import db, now
from webapp.errors import Conflict, ExpiredToken, InvalidInput, NotAllowed, NotFound
from webapp.tenancy import unscoped


def reload(app: Flask, account: Account) -> User:
    with app.app_context(), unscoped():
        user = db.session.get_one(User, account.id)
        db.session.expunge_all()
        return user


def session_of(app: Flask, account: Account) -> str:
    """The token of a new session."""
    with app.app_context():
        user = operations.sign_in(email=account.email, password=account.password)
        return user.session_token


def is_open(app: Flask, session: str) -> bool:
    with app.app_context():
        return sessions.user_of_session(session, by_person=True) is not None


def first_account(number: int = 1) -> User:
    return operations.create_first_account(
        organisation=f"Hospital {number}",
        name="Anna",
        email=f"anna{number}@hospital.example",
        password=PASSWORD,
    )


class TestFirstAccount:
    def test_is_the_administrator_of_a_new_organisation(self, app: Flask) -> None:
        with app.app_context():
            assert queries.no_account_yet()
            user = first_account()
            assert (user.role, user.organisation.name) == (Role.ADMIN, "Hospital 1")
            assert not queries.no_account_yet()
            organisation_id = user.organisation_id
        assert actions(app, organisation_id) == ["create_first_account"]

    def test_is_made_once(self, app: Flask) -> None:
        with app.app_context():
            first_account(1)
            with pytest.raises(NotFound):
                first_account(2)

    def test_is_one_even_if_two_are_asked_for_at_the_same_moment(self, app: Flask) -> None:
        results = at_once(app, *(lambda n=n: first_account(n) for n in range(4)))
        assert sum(isinstance(result, User) for result in results) == 1
        assert sum(isinstance(result, NotFound) for result in results) == 3
        with app.app_context(), unscoped():
            assert db.session.scalar(select(func.count(User.id))) == 1
            assert db.session.scalar(select(func.count(Organisation.id))) == 1

    @pytest.mark.parametrize(
        ("field", "value"),
        [("organisation", " "), ("name", "\x00"), ("email", "anna"), ("password", "short")],
    )
    def test_names_the_value_that_it_refuses(self, app: Flask, field: str, value: str) -> None:
        values = {
            "organisation": "Hospital",
            "name": "Anna",
            "email": "anna@hospital.example",
            "password": PASSWORD,
        }
        with app.app_context(), pytest.raises(InvalidInput) as refused:
            operations.create_first_account(**{**values, field: value})
        assert set(refused.value.fields) == {field}


class TestCreateUser:
    def test_keeps_one_form_of_the_address(self, app: Flask, make_user: MakeUser) -> None:
        account = make_user(email=" Anna@Hospital.EXAMPLE ")
        assert account.email == "anna@hospital.example"
        assert reload(app, account).name == "anna"

    def test_makes_the_organisation_only_if_it_is_new(self, make_user: MakeUser) -> None:
        first, second = make_user(organisation="A"), make_user(organisation=" A ")
        assert first.organisation_id == second.organisation_id
        assert make_user(organisation="B").organisation_id != first.organisation_id

    def test_refuses_an_address_that_is_taken_anywhere(self, make_user: MakeUser) -> None:
        make_user(email="anna@x.example", organisation="A")
        with pytest.raises(Conflict):
            make_user(email="ANNA@x.example", organisation="B")

    def test_gives_an_address_once_even_at_the_same_moment(self, app: Flask) -> None:
        def create() -> User:
            return operations.create_user(
                email="anna@x.example", password=PASSWORD, role=Role.CLINICIAN, organisation="New"
            )

        results = at_once(app, create, create, create)
        assert sorted(type(result).__name__ for result in results) == [
            "Conflict",
            "Conflict",
            "User",
        ]


class TestSignIn:
    def test_returns_the_user_and_notes_the_moment(self, app: Flask, make_user: MakeUser) -> None:
        account = make_user()
        with app.app_context():
            user = operations.sign_in(email=account.email.upper(), password=account.password)
            assert user.id == account.id
        seen = reload(app, account).last_seen_at
        assert seen is not None
        assert now() - seen < timedelta(minutes=1)
        assert actions(app, account.organisation_id)[-1] == "sign_in"

    @pytest.mark.parametrize("email", ["anna@x.example", "nobody@x.example", "nonsense", "\x00"])
    def test_refuses_with_one_sentence_whatever_is_wrong(
        self, app: Flask, make_user: MakeUser, email: str
    ) -> None:
        make_user(email="anna@x.example")
        with app.app_context(), pytest.raises(InvalidInput) as refused:
            operations.sign_in(email=email, password="not the password")
        assert refused.value.message == "The e-mail address or password is incorrect."

    def test_a_refusal_is_in_the_audit_trail(self, app: Flask, make_user: MakeUser) -> None:
        account = make_user()
        with app.app_context(), pytest.raises(InvalidInput):
            operations.sign_in(email=account.email, password="wrong")
        assert actions(app, account.organisation_id)[-1] == "refuse_sign_in"

    def test_a_closed_account_is_refused_in_the_same_words(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        admin, account = make_user(Role.ADMIN), make_user()
        with acting(app, admin) as actor:
            operations.change_user(
                actor=actor, user_id=account.id, role=account.role, is_active=False
            )
        with app.app_context(), pytest.raises(InvalidInput, match="is incorrect"):
            operations.sign_in(email=account.email, password=account.password)

    def test_renews_a_hash_with_old_parameters(self, app: Flask, make_user: MakeUser) -> None:
        account = make_user()
        weak = PasswordHasher(time_cost=1, memory_cost=1024).hash(account.password)
        with app.app_context():
            with unscoped():
                db.session.execute(update(User).values(password_hash=weak))
                db.session.commit()
            operations.sign_in(email=account.email, password=account.password)
            operations.sign_in(email=account.email, password=account.password)
        assert reload(app, account).password_hash != weak


class TestPassword:
    def test_a_change_ends_all_sessions_and_tokens(self, app: Flask, make_user: MakeUser) -> None:
        account = make_user()
        session, (_id, token) = session_of(app, account), make_api_token(app, account)
        with acting(app, account) as user:
            operations.change_password(user=user, current=account.password, new="a new sentence")
        assert not is_open(app, session)
        with app.app_context():
            assert operations.user_of_token(token) is None
            assert operations.sign_in(email=account.email, password="a new sentence")
            with pytest.raises(InvalidInput):
                operations.sign_in(email=account.email, password=account.password)

    @pytest.mark.parametrize(
        ("current", "new", "field"),
        [("wrong", "a new sentence", "current"), (PASSWORD, "short", "password")],
    )
    def test_a_refused_change_leaves_everything(
        self, app: Flask, make_user: MakeUser, current: str, new: str, field: str
    ) -> None:
        account = make_user()
        before, session = reload(app, account), session_of(app, account)
        with acting(app, account) as user, pytest.raises(InvalidInput) as refused:
            operations.change_password(user=user, current=current, new=new)
        assert set(refused.value.fields) == {field}
        assert reload(app, account).password_hash == before.password_hash
        assert is_open(app, session)

    def test_setting_it_for_nobody_is_refused(self, app: Flask) -> None:
        with app.app_context(), pytest.raises(NotFound):
            operations.set_password(email="nobody@x.example", password=PASSWORD)


class TestChangeUser:
    def change(self, app: Flask, actor: Account, user: Account, role: Role, active: bool) -> None:
        with acting(app, actor) as admin:
            operations.change_user(actor=admin, user_id=user.id, role=role, is_active=active)

    def test_sets_the_role(self, app: Flask, make_user: MakeUser) -> None:
        admin, user = make_user(Role.ADMIN), make_user()
        self.change(app, admin, user, Role.REVIEWER, True)
        assert reload(app, user).role is Role.REVIEWER
        assert actions(app, admin.organisation_id)[-1] == "change_user"

    def test_closing_an_account_ends_its_sessions_and_tokens(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        admin, user = make_user(Role.ADMIN), make_user()
        (_id, token), session = make_api_token(app, user), session_of(app, user)
        self.change(app, admin, user, user.role, False)
        self.change(app, admin, user, user.role, True)
        assert not is_open(app, session)
        with app.app_context():
            assert operations.user_of_token(token) is None

    @pytest.mark.parametrize(("role", "active"), [(Role.REVIEWER, True), (Role.ADMIN, False)])
    def test_the_last_active_administrator_stays(
        self, app: Flask, make_user: MakeUser, role: Role, active: bool
    ) -> None:
        admin, other = make_user(Role.ADMIN), make_user(Role.ADMIN)
        make_user(Role.ADMIN, organisation="Hospital B")
        self.change(app, admin, other, Role.ADMIN, False)
        with pytest.raises(Conflict):
            self.change(app, admin, admin, role, active)
        assert reload(app, admin).may(Role.ADMIN)
        assert reload(app, admin).is_active

    def test_two_administrators_cannot_remove_each_other_at_the_same_moment(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        first, second = make_user(Role.ADMIN), make_user(Role.ADMIN)
        results = at_once(
            app,
            lambda: self.change(app, first, second, Role.CLINICIAN, True),
            lambda: self.change(app, second, first, Role.CLINICIAN, True),
        )
        assert sorted(type(result).__name__ for result in results) == ["Conflict", "NoneType"]

    def test_users_of_others_are_not_found(self, app: Flask, make_user: MakeUser) -> None:
        admin, foreign = make_user(Role.ADMIN), make_user(organisation="Hospital B")
        with pytest.raises(NotFound):
            self.change(app, admin, foreign, Role.REVIEWER, True)
        assert reload(app, foreign).role is Role.CLINICIAN


class TestToken:
    def test_expires(self, app: Flask, make_user: MakeUser) -> None:
        token_id, token = make_api_token(app, make_user())
        with app.app_context(), unscoped():
            row = db.session.get_one(ApiToken, token_id)
            assert row.expires_at is not None
            assert abs(row.expires_at - now() - timedelta(days=90)) < timedelta(minutes=1)
            row.expires_at = now()
            db.session.commit()
            with pytest.raises(ExpiredToken):
                operations.user_of_token(token)

    def test_of_before_they_expired_lasts(self, app: Flask, make_user: MakeUser) -> None:
        token_id, token = make_api_token(app, make_user())
        with app.app_context(), unscoped():
            db.session.get_one(ApiToken, token_id).expires_at = None
            db.session.commit()
            assert operations.user_of_token(token, writes=True)

    def test_lasts_only_as_long_as_is_offered(self, app: Flask, make_user: MakeUser) -> None:
        account = make_user()
        with acting(app, account) as user:
            for days in (0, -1, 31, 10**9):
                with pytest.raises(InvalidInput) as refused:
                    operations.create_token(user=user, name="bridge", days=days)
                assert set(refused.value.fields) == {"days"}

    def test_for_reading_does_not_write(self, app: Flask, make_user: MakeUser) -> None:
        account = make_user()
        with acting(app, account) as user:
            _row, token = operations.create_token(user=user, name="viewer", scope=Scope.READ)
        with app.app_context():
            assert operations.user_of_token(token)
            with pytest.raises(NotAllowed):
                operations.user_of_token(token, writes=True)

    def test_belongs_to_its_user(self, app: Flask, make_user: MakeUser) -> None:
        account = make_user()
        _id, token = make_api_token(app, account)
        assert token.startswith("sulcus_")
        assert len(token) == len("sulcus_") + 43
        with app.app_context():
            user = operations.user_of_token(token)
            assert user is not None
            assert (user.id, user.organisation.name) == (account.id, "Hospital A")

    @pytest.mark.parametrize("token", ["", "sulcus_", "sulcus_" + "A" * 43, "\x00", "ü"])
    def test_an_unknown_one_belongs_to_nobody(self, app: Flask, token: str) -> None:
        with app.app_context():
            assert operations.user_of_token(token) is None

    def test_only_its_hash_is_kept(self, app: Flask, make_user: MakeUser) -> None:
        _id, token = make_api_token(app, make_user())
        with app.app_context(), unscoped():
            row = db.session.scalars(select(ApiToken)).one()
            assert row.token_hash != token
            assert row.token_hash == queries.token_hash(token)

    def test_the_last_use_is_noted_at_most_once_a_minute(
        self, app: Flask, make_user: MakeUser
    ) -> None:
        token_id, token = make_api_token(app, make_user())

        def use(*, last: timedelta | None) -> bool:
            """Use it, the use before being that long ago; whether this use was noted."""
            with app.app_context(), unscoped():
                row = db.session.get_one(ApiToken, token_id)
                before = row.last_used_at = None if last is None else now() - last
                db.session.commit()
                assert operations.user_of_token(token)
                return row.last_used_at != before

        assert use(last=None)
        assert not use(last=timedelta(seconds=50))
        assert use(last=timedelta(seconds=70))

    def test_can_be_revoked_by_its_user_alone(self, app: Flask, make_user: MakeUser) -> None:
        owner, colleague = make_user(), make_user(Role.ADMIN)
        token_id, token = make_api_token(app, owner)
        with acting(app, colleague) as user, pytest.raises(NotFound):
            operations.revoke_token(user=user, token_id=token_id)
        with acting(app, owner) as user:
            operations.revoke_token(user=user, token_id=token_id)
            with pytest.raises(NotFound):
                operations.revoke_token(user=user, token_id=token_id)
            assert queries.list_tokens(user) == []
            assert operations.user_of_token(token) is None


def test_a_language_is_kept_with_the_user(app: Flask, make_user: MakeUser) -> None:
    account = make_user()
    with acting(app, account) as user:
        operations.choose_language(user=user, locale="de")
        with pytest.raises(InvalidInput):
            operations.choose_language(user=user, locale="../etc")
    assert reload(app, account).locale == "de"


def test_the_audit_trail_holds_no_secret(app: Flask, make_user: MakeUser) -> None:
    admin = make_user(Role.ADMIN)
    _id, token = make_api_token(app, admin)
    with acting(app, admin) as actor:
        _row, invitation = operations.invite(
            actor=actor, email="new@x.example", role=Role.CLINICIAN
        )
        operations.change_password(user=actor, current=admin.password, new="a new sentence")
        trail = "".join(
            f"{event.action} {event.details}" for event in db.session.scalars(select(AuditEvent))
        )
    for secret in (token, invitation, admin.password, "a new sentence"):
        assert secret not in trail

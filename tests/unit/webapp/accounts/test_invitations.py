"""An invitation makes one account, once, while it is open."""

from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import select

from tests.factories import Account
from tests.unit.webapp.accounts.acting import PASSWORD, MakeUser, acting, actions, at_once
from webapp.accounts import operations, queries
from webapp.accounts.models import Invitation, Role, User
from webapp.database import db, now
from webapp.errors import Conflict, NotFound
from webapp.tenancy import acting_for, unscoped


class TestInvitation:
    @pytest.fixture
    def admin(self, make_user: MakeUser) -> Account:
        return make_user(Role.ADMIN)

    def invite(self, app: Flask, admin: Account, email: str = "new@x.example") -> str:
        with acting(app, admin) as actor:
            _row, token = operations.invite(actor=actor, email=email, role=Role.REVIEWER)
            return token

    def accept(self, token: str) -> User:
        return operations.accept_invitation(token=token, name="New", password=PASSWORD)

    def test_makes_an_account_of_the_role_in_the_organisation(
        self, app: Flask, admin: Account
    ) -> None:
        token = self.invite(app, admin)
        with app.app_context():
            user = self.accept(token)
            assert (user.email, user.role) == ("new@x.example", Role.REVIEWER)
            assert user.organisation_id == admin.organisation_id
        assert actions(app, admin.organisation_id)[-2:] == ["invite", "accept_invitation"]

    def test_keeps_only_the_hash_of_the_token(self, app: Flask, admin: Account) -> None:
        token = self.invite(app, admin)
        with app.app_context(), unscoped():
            kept = db.session.scalars(select(Invitation.token_hash)).one()
        assert token not in kept
        assert len(token) >= 43

    def test_works_once(self, app: Flask, admin: Account) -> None:
        token = self.invite(app, admin)
        with app.app_context():
            self.accept(token)
            with pytest.raises(NotFound):
                self.accept(token)

    def test_works_once_even_at_the_same_moment(self, app: Flask, admin: Account) -> None:
        token = self.invite(app, admin)
        results = at_once(app, *[lambda: self.accept(token)] * 3)
        assert sorted(type(result).__name__ for result in results) == [
            "NotFound",
            "NotFound",
            "User",
        ]

    def test_is_over_after_seven_days(self, app: Flask, admin: Account) -> None:
        token = self.invite(app, admin)
        with app.app_context():
            with unscoped():
                invitation = db.session.scalars(select(Invitation)).one()
                left = invitation.expires_at - now()
                assert timedelta(days=6, hours=23) < left <= timedelta(days=7)
                invitation.expires_at = now() - timedelta(seconds=1)
                db.session.commit()
            with pytest.raises(NotFound):
                self.accept(token)
            with acting_for(admin.organisation_id):
                assert queries.list_invitations() == []

    def test_can_be_revoked(self, app: Flask, admin: Account) -> None:
        token = self.invite(app, admin)
        with acting(app, admin) as actor:
            invitation_id = queries.find_invitation(token).id
            operations.revoke_invitation(actor=actor, invitation_id=invitation_id)
            with pytest.raises(NotFound):
                operations.revoke_invitation(actor=actor, invitation_id=invitation_id)
            with pytest.raises(NotFound):
                self.accept(token)

    def test_replaces_the_one_before(self, app: Flask, admin: Account) -> None:
        first, second = self.invite(app, admin), self.invite(app, admin)
        with app.app_context():
            with pytest.raises(NotFound):
                self.accept(first)
            assert self.accept(second)

    def test_ends_when_its_sender_is_no_longer_an_administrator(
        self, app: Flask, admin: Account, make_user: MakeUser
    ) -> None:
        other = make_user(Role.ADMIN)
        token = self.invite(app, other)
        with acting(app, admin) as actor:
            operations.change_user(
                actor=actor, user_id=other.id, role=Role.REVIEWER, is_active=True
            )
            with pytest.raises(NotFound):
                self.accept(token)

    def test_is_refused_for_somebody_who_has_an_account(self, app: Flask, admin: Account) -> None:
        with pytest.raises(Conflict):
            self.invite(app, admin, email=admin.email)

    def test_does_not_make_a_second_account_for_an_address(
        self, app: Flask, admin: Account, make_user: MakeUser
    ) -> None:
        token = self.invite(app, admin)
        make_user(email="new@x.example", organisation="Elsewhere")
        with app.app_context(), pytest.raises(Conflict):
            self.accept(token)
        assert actions(app, admin.organisation_id)[-1] == "refuse_invitation"

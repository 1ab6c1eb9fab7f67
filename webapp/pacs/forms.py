"""The form of a node. The operations check the values."""

from flask_babel import LazyString
from flask_babel import lazy_gettext as _l
from wtforms import BooleanField, IntegerField, PasswordField, SelectField, StringField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import DataRequired, Length, Optional

from webapp.formerrors import CheckedForm
from webapp.pacs.models import PacsNode, Sending
from webapp.pacs.operations import NodeDetails

SENDINGS: dict[str, LazyString] = {
    "never": _l("Never"),
    "dimse": _l("By C-STORE"),
    "stow": _l("By DICOMweb (STOW-RS)"),
}
_given = DataRequired(_l("Please fill this in."))


class NodeForm(CheckedForm):
    """An archive, scanner or router."""

    name = StringField(_l("Name"), [_given, Length(max=64)])
    ae_title = StringField(_l("Application entity (AE) title"), [_given, Length(max=16)])
    address = StringField(_l("Host name or IP address"), [_given, Length(max=255)])
    may_send = BooleanField(_l("May send studies to the portal"), default=True)
    sending = SelectField(
        _l("Send results to it"),
        choices=[SelectChoice(each, SENDINGS[each.value]) for each in Sending],
        coerce=Sending,
        default=Sending.NEVER,
    )
    port = IntegerField(_l("DICOM port"), [Optional()])
    stow_url = StringField(_l("DICOMweb address"), [Length(max=500)])
    stow_authorization = PasswordField(_l("Authorization header"), [Length(max=500)])
    forget_authorization = BooleanField(_l("Delete the stored header"))
    sends_by_itself = BooleanField(_l("Send each finished study automatically"))

    @classmethod
    def of(cls, node: PacsNode) -> "NodeForm":
        """A form with the node's values, except the Authorization header, which is never shown."""
        return cls(formdata=None, obj=node, data={"stow_authorization": ""})

    def details(self) -> NodeDetails:
        """The values of the form, except the Authorization header."""
        return NodeDetails(
            name=self.name.data,
            ae_title=self.ae_title.data,
            address=self.address.data,
            may_send=self.may_send.data,
            sending=self.sending.data,
            port=self.port.data,
            stow_url=self.stow_url.data or "",
            sends_by_itself=self.sends_by_itself.data,
        )

    def authorization(self) -> str | None:
        """The new Authorization header; empty to delete the stored one, None to keep it."""
        if self.stow_authorization.data:
            return str(self.stow_authorization.data)
        return "" if self.forget_authorization.data else None

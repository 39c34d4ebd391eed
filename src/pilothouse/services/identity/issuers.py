"""The identity providers that are set up, of whatever kind."""

from pilothouse.errors import InvalidSettings
from pilothouse.oidc.configuration import read_providers
from pilothouse.providers.secret_files import read_secret
from pilothouse.settings import Settings

_GROUP = "PILOTHOUSE_KEYSTONE__"


def issuers_of(settings: Settings) -> dict[str, str]:
    """Return the issuer of each provider by the provider's name; raise InvalidSettings."""
    found = {name: provider.issuer for name, provider in read_providers(settings.oidc).items()}
    keystone = settings.keystone
    if keystone.url and keystone.password_file is not None:
        for what, taken in ((keystone.name, found.keys()), (keystone.url, found.values())):
            if what in taken:
                raise InvalidSettings(
                    f"{_GROUP}NAME, {_GROUP}URL: a provider of PILOTHOUSE_OIDC__FILE has {what!r} already"
                )
        read_secret(keystone.password_file, f"{_GROUP}PASSWORD_FILE={keystone.password_file}")
        found[keystone.name] = keystone.url
    return found

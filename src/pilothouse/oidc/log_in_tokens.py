"""What a provider gives for a log-in: an ID token, and an access token that opens the user info."""

from dataclasses import replace

from pilothouse.errors import NotAuthenticated
from pilothouse.oidc.provider import Provider
from pilothouse.oidc.verification import Statement


async def add_user_info(statement: Statement, provider: Provider, access_token: str) -> Statement:
    """Return the statement of an ID token with claims that only the user info has, if any are missing.

    Raises NotAuthenticated or ProviderUnavailable.
    """
    return await read_user_info(statement, provider, access_token) if needs_user_info(statement) else statement


def needs_user_info(statement: Statement) -> bool:
    """Return True if the ID token lacks name or groups."""
    return not _wanted(statement) <= statement.claims.keys()


async def read_user_info(statement: Statement, provider: Provider, access_token: str) -> Statement:
    """Return the statement with what it lacks and the user info has, which must be of the same person.

    That of a provider without user info stays as it is. Raises NotAuthenticated or ProviderUnavailable.
    """
    description = await provider.describe()
    if not description.userinfo:
        return statement
    more = await provider.read_user_info(description.userinfo, access_token)
    if more.get("sub") != statement.claims["sub"]:
        raise NotAuthenticated("The provider's user info is of another person than its ID token.")
    claims = {**{name: more[name] for name in _wanted(statement) & more.keys()}, **statement.claims}
    return replace(statement, claims=claims)


def _wanted(statement: Statement) -> set[str]:
    configuration = statement.provider
    return {configuration.user_claim.partition(".")[0], configuration.groups_claim.partition(".")[0]}

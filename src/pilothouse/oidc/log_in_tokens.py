"""What a provider gives for a log-in: an ID token, and an access token that opens the user info."""

from dataclasses import replace

from pilothouse.errors import NotAuthenticated, ProviderUnavailable
from pilothouse.oidc.provider import Provider
from pilothouse.oidc.verification import Statement, verify_id_token


async def verify_tokens(
    provider: Provider, *, id_token: object, access_token: object, client_id: str, nonce: str
) -> Statement:
    """Return the statement of the ID token for that client, with claims that only the user info has.

    Raises NotAuthenticated or ProviderUnavailable.
    """
    if not isinstance(id_token, str) or not isinstance(access_token, str):
        with provider.failures():
            raise ProviderUnavailable("it answered without an ID token or access token")
    statement = await verify_id_token(id_token, provider, client_id=client_id, nonce=nonce, access_token=access_token)
    configuration, description = provider.configuration, await provider.describe()
    wanted = {configuration.user_claim.partition(".")[0], configuration.groups_claim.partition(".")[0]}
    if description.userinfo and not wanted <= statement.claims.keys():
        more = await provider.read_json(description.userinfo, token=access_token)
        if more.get("sub") != statement.claims["sub"]:
            raise NotAuthenticated("The provider's user info is of another person than its ID token.")
        claims = {**{name: more[name] for name in wanted & more.keys()}, **statement.claims}
        statement = replace(statement, claims=claims)
    return statement

"""The settings of a command, read once."""

from pydantic import ValidationError
from pydantic_settings import SettingsError

from pilothouse.errors import InvalidSettings
from pilothouse.settings import Settings


def read_settings() -> Settings:
    """The settings; raises InvalidSettings with the names of the wrong variables and why, but never with a value."""
    try:
        return Settings()
    except ValidationError as error:
        wrong = [
            f"PILOTHOUSE_{'__'.join(str(part) for part in one['loc']).upper()}: {one['msg']}" for one in error.errors()
        ]
        raise InvalidSettings(f"{'; '.join(wrong)}; mend or unset what is wrong") from None
    except SettingsError as error:
        raise InvalidSettings(f"the environment's settings cannot be read: {error}") from None

"""The settings of a command, read once."""

import os
from pathlib import Path

from pydantic import ValidationError
from pydantic_settings import SettingsError

from pilothouse.errors import InvalidSettings
from pilothouse.settings import Settings, unknown_variables


def read_settings() -> Settings:
    """Return the settings; raise InvalidSettings with names and reasons of wrong variables, but never a value."""
    try:
        return Settings()
    except ValidationError as error:
        wrong = [
            f"PILOTHOUSE_{'__'.join(str(part) for part in problem['loc']).upper()}: {problem['msg']}"
            for problem in error.errors()
        ]
        raise InvalidSettings(f"{'; '.join(wrong)}; fix or unset them") from None
    except SettingsError as error:
        raise InvalidSettings(f"cannot read the settings from the environment: {error}") from None


def refuse_unknown_variables() -> None:
    """Raise InvalidSettings if a variable looks like a setting and is none: a server that ignores it surprises."""
    wrong = [
        f"{name} (did you mean {nearest}?)" if nearest else name
        for name, nearest in sorted(unknown_variables(os.environ).items())
    ]
    if wrong:
        raise InvalidSettings(f"no such setting: {', '.join(wrong)}; fix or unset them")


def make_data_folder(folder: Path) -> None:
    """Create the data folder if it is missing; raise InvalidSettings if it cannot be made, or not be written to."""
    advice = "set PILOTHOUSE_DATA_DIR to a folder that this account may write to, or run as the account that owns it"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise InvalidSettings(f"the data folder {folder} is not a folder: set PILOTHOUSE_DATA_DIR to one") from None
    except OSError as error:
        raise InvalidSettings(f"cannot make the data folder {folder}: {error.strerror}; {advice}") from error
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise InvalidSettings(f"cannot write to the data folder {folder}; {advice}")

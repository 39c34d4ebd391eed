"""What a user of a provider may be called here."""

import hashlib
import re
from typing import Final

#: What a user may be called, and what stands for anything else in a name from a provider.
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.@-]{0,63}")
_DIGITS: Final = 12


def user_name(said: object, *, subject: str, provider: str) -> str:
    """Return the name that the provider gives the user; one from the subject if it can be no name here.

    Nobody takes the name that is made from another's subject.
    """
    made = re.compile(rf"{re.escape(provider)}-[0-9a-f]{{{_DIGITS}}}")
    if isinstance(said, str) and _NAME.fullmatch(said) and not made.fullmatch(said):
        return said
    return f"{provider}-{hashlib.sha256(subject.encode()).hexdigest()[:_DIGITS]}"

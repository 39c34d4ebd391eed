"""What every group of settings is."""

from typing import Final

from pydantic import BaseModel, ConfigDict

MIB: Final = 1024 * 1024


class Group(BaseModel):
    """Settings of one noun; a variable that it does not have is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

"""``make docs``: writes the description of the compatible API to docs/, for those who read it without a server."""

import json
from pathlib import Path

from pilothouse.api.cce.description import openapi

PUBLISHED = Path(__file__).resolve().parents[1] / "docs" / "compatible-openapi.json"

if __name__ == "__main__":
    PUBLISHED.write_text(json.dumps(openapi(), indent=1, ensure_ascii=False) + "\n")
    print(f"wrote {PUBLISHED}")

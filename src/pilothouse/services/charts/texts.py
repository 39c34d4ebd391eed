"""The texts in the archive of a chart that somebody looks at before they install it."""

import io

from pilothouse.chart_archive.budget import Budget
from pilothouse.chart_archive.charts import README_NAMES, limits_of
from pilothouse.chart_archive.tarball import unpack
from pilothouse.settings import ChartLimits

_VALUES, _SCHEMA = "values.yaml", "values.schema.json"


def read_texts(archive: bytes, *, limits: ChartLimits) -> tuple[str, str, str]:
    """Return readme, values and schema of an archive, as they are."""

    def is_text(path: str, depth: int) -> bool:
        return depth == 0 and (path in {_VALUES, _SCHEMA} or path.casefold() in README_NAMES)

    found = unpack(io.BytesIO(archive), budget=Budget(limits_of(limits)), keep=is_text)
    texts = {path: content.decode(errors="replace") for path, content in found.files.items()}
    readme = next((text for path, text in texts.items() if path.casefold() in README_NAMES), "")
    return readme, texts.get(_VALUES, ""), texts.get(_SCHEMA, "")

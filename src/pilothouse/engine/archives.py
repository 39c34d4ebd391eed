"""A chart archive made safe to give to the library: read here within limits, checked, and written anew.

The library limits each archive by itself, so a small one with others inside can cost gigabytes, and it follows a
``$ref`` in a values schema to any URL or file. Checking the bytes and then passing the same bytes on would hold only
if two tar readers always agreed; what this module returns was written by it, so nothing else is in it. The reader is
the one that looked at the chart when it was uploaded, so that what was stored can be opened.
"""

import gzip
import io
import tarfile

from pilothouse.archive.budget import ArchiveLimits, Budget
from pilothouse.archive.tarball import Unpacked, unpack
from pilothouse.errors import HelmRefused, InvalidChart

_HOOK, _NO_HOOK = b"helm.sh/hook", b"helm.sh/h00k"


def canonical_archive(archive: bytes, *, limits: ArchiveLimits, hooks: bool = True) -> bytes:
    """The same chart as a plain archive of plain files, subcharts included, that costs no more than the limits.

    Without ``hooks``, what its templates call a hook is an object like any other. Raises HelmRefused with the reason
    for which the reader refuses it.
    """
    try:
        found = unpack(io.BytesIO(archive), budget=Budget(limits), keep=lambda _path, _depth: True)
    except InvalidChart as error:
        raise HelmRefused(str(error), kind="HelmChartLoadError") from None
    return _pack(found, hooks=hooks)


def _pack(chart: Unpacked, *, hooks: bool) -> bytes:
    written = io.BytesIO()
    with tarfile.TarFile(fileobj=written, mode="w", format=tarfile.PAX_FORMAT) as target:
        for path in chart.paths:
            content = _pack(chart.nested[path], hooks=hooks) if path in chart.nested else chart.files[path]
            if not hooks and "templates/" in path:
                content = content.replace(_HOOK, _NO_HOOK)
            entry = tarfile.TarInfo(f"chart/{path}")
            entry.size, entry.mode = len(content), 0o644
            target.addfile(entry, io.BytesIO(content))
    return gzip.compress(written.getvalue(), compresslevel=1, mtime=0)

"""A chart archive made safe to give to the library: read here within limits, checked, and written anew.

The library limits each archive by itself, so a small one with others inside can cost gigabytes, and it follows a
``$ref`` in a values schema to any URL or file. Checking the bytes and then passing the same bytes on would hold only
if two tar readers always agreed; what this module returns was written by it, so nothing else is in it.
"""

import gzip
import io
import json
import posixpath
import re
import tarfile
import zlib
from typing import Any

from pilothouse.errors import HelmRefused

# a chart in a chart in a chart in a chart; real ones reach two
_NESTING = 4
_FILES = 20_000
_BLOCK = tarfile.BLOCKSIZE

# what the library loads a document for; the dialects it has built in cost no request
_REFERENCES = frozenset({"$ref", "$dynamicRef", "$recursiveRef", "$schema"})
_KNOWN_DIALECT = re.compile(
    r"https?://json-schema\.org/(draft-0[467]/schema|draft/(2019-09|2020-12)/schema|schema)(#[^?]*)?"
)


def canonical_archive(archive: bytes, *, unpacked_bytes: int) -> bytes:
    """The same chart as a plain archive that costs at most ``unpacked_bytes`` to open, subcharts included.

    Folders, links and devices are left out, as the library does not use them. Raises HelmRefused for what is no
    gzipped tar, for limits that are passed (bytes, files, nesting) and for a schema with a reference that is not local.
    """
    return _Rewriter(unpacked_bytes).rewrite(archive, "the chart archive", depth=0)


class _Rewriter:
    """Rewrites one archive and those in it, with one budget for all."""

    def __init__(self, unpacked_bytes: int) -> None:
        self._limit = unpacked_bytes
        self._bytes_left = unpacked_bytes
        self._files_left = _FILES

    def rewrite(self, archive: bytes, label: str, *, depth: int) -> bytes:
        if depth > _NESTING:
            raise _refused(f"{label} lies more than {_NESTING} archives deep")
        opened = tarfile.TarFile(fileobj=io.BytesIO(self._unpack(archive, label)), mode="r")
        written = io.BytesIO()
        with opened, tarfile.TarFile(fileobj=written, mode="w", format=tarfile.PAX_FORMAT) as target:
            try:
                for entry in opened:
                    self._copy(opened, entry, target, depth)
            except (tarfile.TarError, EOFError, ValueError) as error:
                raise _refused(f"{label} is damaged: {error}") from None
            self._refuse_early_end(opened, label)
        return gzip.compress(written.getvalue(), compresslevel=1, mtime=0)

    def _unpack(self, archive: bytes, label: str) -> bytes:
        inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        parts = []
        data = archive
        try:
            while data:
                parts.append(inflater.decompress(data, self._bytes_left + 1))
                self._bytes_left -= len(parts[-1])
                if self._bytes_left < 0:
                    raise _refused(f"the chart unpacks to more than {self._limit} bytes, subcharts included")
                data = inflater.unconsumed_tail
                if inflater.eof:
                    # further gzip members are one stream to every reader of gzip files
                    data, inflater = inflater.unused_data, zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
                    if not data:
                        break
            else:
                raise _refused(f"{label} is empty or ends too early")
        except zlib.error:
            raise _refused(f"{label} is not a gzipped tar archive") from None
        return b"".join(parts)

    def _copy(self, opened: tarfile.TarFile, entry: tarfile.TarInfo, target: tarfile.TarFile, depth: int) -> None:
        if not entry.isreg():
            return
        self._files_left -= 1
        if self._files_left < 0:
            raise _refused(f"the chart holds more than {_FILES} files, subcharts included")
        source = opened.extractfile(entry)
        content = source.read() if source is not None else b""
        if len(content) != entry.size:
            raise EOFError(f"{entry.name} ends too early")
        if depth == 0 and "\0" in entry.name:
            raise _refused("a file name in the chart holds a NUL character")
        parts = posixpath.normpath(entry.name.replace("\\", "/")).split("/")
        if len(parts) >= 3 and parts[-2] == "charts" and parts[-1].endswith(".tgz"):
            content = self.rewrite(content, entry.name, depth=depth + 1)
        elif parts[-1] == "values.schema.json":
            _refuse_remote_references(content, entry.name)
        plain = tarfile.TarInfo(entry.name)
        plain.size, plain.mtime, plain.mode = len(content), int(entry.mtime), 0o644
        target.addfile(plain, io.BytesIO(content))

    def _refuse_early_end(self, opened: tarfile.TarFile, label: str) -> None:
        """tarfile takes a broken header for the end; what follows would be dropped without a word."""
        assert opened.fileobj is not None
        opened.fileobj.seek(opened.offset)
        if opened.fileobj.read(_BLOCK).strip(b"\0"):
            raise _refused(f"{label} is damaged: not a tar header at byte {opened.offset}")


def _refuse_remote_references(schema: bytes, label: str) -> None:
    def check(pairs: list[tuple[str, Any]]) -> None:
        # pairs, not a dict: of a key that occurs twice, every occurrence is looked at
        for key, value in pairs:
            if key not in _REFERENCES or not isinstance(value, str) or _KNOWN_DIALECT.fullmatch(value):
                continue
            if key == "$schema" or not value.startswith("#"):
                raise _refused(f"{label} refers to {value!r} by {key}; only references within the file are allowed")

    try:
        json.loads(schema, object_pairs_hook=check)
    except (ValueError, RecursionError):
        raise _refused(f"{label} is not a JSON document") from None


def _refused(message: str) -> HelmRefused:
    return HelmRefused(message, kind="HelmChartLoadError")

"""A chart archive made safe to give to the library: read here within limits, checked, and written anew.

The library limits each archive by itself, so a small one with others inside can cost gigabytes, and it follows a
``$ref`` in a values schema to any URL or file. Checking the bytes and then passing the same bytes on would hold only
if two tar readers always agreed; what this module returns was written by it, so nothing else is in it.
"""

import gzip
import io
import posixpath
import tarfile
import zlib

from pilothouse.archive.schemas import is_schema, refuse_remote_references
from pilothouse.errors import HelmRefused, InvalidChart

_BLOCK = tarfile.BLOCKSIZE


def canonical_archive(archive: bytes, *, unpacked_bytes: int, files: int, depth: int) -> bytes:
    """The same chart as a plain archive that costs at most ``unpacked_bytes`` to open, subcharts included.

    Folders, links and devices are left out, as the library does not use them. ``depth`` is how far archives may be
    nested. Raises HelmRefused for what is no gzipped tar, for a limit that is passed, and for a schema with a
    reference that is not local.
    """
    return _Rewriter(unpacked_bytes, files, depth).rewrite(archive, "the chart archive", level=0)


class _Rewriter:
    """Rewrites one archive and those in it, with one budget for all."""

    def __init__(self, unpacked_bytes: int, files: int, depth: int) -> None:
        self._unpacked_bytes, self._bytes_left = unpacked_bytes, unpacked_bytes
        self._files, self._files_left = files, files
        self._depth = depth

    def rewrite(self, archive: bytes, label: str, *, level: int) -> bytes:
        if level > self._depth:
            raise _refused(f"{label} lies more than {self._depth} archives deep")
        raw = io.BytesIO(self._unpack(archive, label))
        written = io.BytesIO()
        try:
            with (
                tarfile.TarFile(fileobj=raw, mode="r") as opened,
                tarfile.TarFile(fileobj=written, mode="w", format=tarfile.PAX_FORMAT) as target,
            ):
                for entry in opened:
                    self._copy(opened, entry, target, level)
                end = opened.offset
        except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
            raise _refused(f"{label} is damaged: {error}") from None
        # tarfile takes a broken header for the end, and would drop what follows without a word
        if raw.getbuffer()[end : end + _BLOCK].tobytes().strip(b"\0"):
            raise _refused(f"{label} is damaged: no tar header at byte {end}")
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
                    raise _refused(f"the chart unpacks to more than {self._unpacked_bytes} bytes, subcharts included")
                data = inflater.unconsumed_tail
                if inflater.eof:
                    # further gzip members are one stream to every reader of gzip files
                    data, inflater = inflater.unused_data, zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
                    if not data.strip(b"\0"):  # padding to a block's end is no member
                        break
            else:
                raise _refused(f"{label} is empty or ends too early")
        except zlib.error:
            raise _refused(f"{label} is not a gzipped tar archive") from None
        return b"".join(parts)

    def _copy(self, opened: tarfile.TarFile, entry: tarfile.TarInfo, target: tarfile.TarFile, level: int) -> None:
        if not entry.isreg():
            return
        self._files_left -= 1
        if self._files_left < 0:
            raise _refused(f"the chart holds more than {self._files} files, subcharts included")
        source = opened.extractfile(entry)
        content = source.read() if source is not None else b""
        if len(content) != entry.size:
            raise EOFError(f"{entry.name} ends too early")
        if "\0" in entry.name:
            raise _refused("a file name in the chart holds a NUL character")
        folder, name = posixpath.split(posixpath.normpath(entry.name.replace("\\", "/")))
        if posixpath.basename(folder) == "charts" and name.endswith(".tgz"):
            content = self.rewrite(content, entry.name, level=level + 1)
        elif is_schema(entry.name):
            try:
                refuse_remote_references(content, file=entry.name)
            except InvalidChart as error:
                raise _refused(str(error)) from None
        plain = tarfile.TarInfo(entry.name)
        plain.size, plain.mtime, plain.mode = len(content), int(entry.mtime), 0o644
        target.addfile(plain, io.BytesIO(content))


def _refused(message: str) -> HelmRefused:
    return HelmRefused(message, kind="HelmChartLoadError")

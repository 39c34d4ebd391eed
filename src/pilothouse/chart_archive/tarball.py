"""Reads a chart's gzipped tar as a stream, and refuses what exceeds the limits or would be extracted elsewhere.

Helm's limits are per archive, so a few KiB of nested archives can become gigabytes. Here one ``Budget`` is shared by an
archive and all those in its ``charts/``, and every inflated byte is charged before it is used. The tar format is parsed
here, because ``tarfile`` recurses per extension header, reads headers of any length, and accepts what Helm reads
differently (ADR 5); features that charts never need are refused by name. Invariants: at most one file of at most
``file_bytes`` is held per level of nesting, and an accepted path means the same file to Helm
(``pkg/chart/loader/archive``): links and devices are empty files, the name of the top folder means nothing, backslashes
separate folders, and for a duplicate path the last file counts (for an archive in ``charts/`` the first).
"""

import io
import posixpath
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from pilothouse.chart_archive.budget import Budget
from pilothouse.errors import InvalidChart

_BLOCK = 512
_PIECE = 64 * 1024
_ZERO_BLOCK = bytes(_BLOCK)
#: Long names and extended attributes of real archives stay far below; Go's reader takes 1 MiB.
_EXTENSION_BYTES = 64 * 1024
#: One program run writes one member; parallel compressors write one per block.
_MEMBERS = 1000
_GZIP_MAGIC = b"\x1f\x8b"
_OCTAL = re.compile(rb"[0-7]*")
_DRIVE = re.compile(r"[A-Za-z]:/")
#: What Helm opens as a subchart; it passes over names that begin with '_' or '.'.
_NESTED = re.compile(r"(?:charts/[^/]+/)*charts/[^/_.][^/]*\.tgz")
#: What macOS' tar adds beside a file; Helm would render it.
_APPLE_DOUBLE = re.compile(r"(?:charts/[^/]+/)*templates/(?:.+/)?\._[^/]*")
_FILE_TYPES = frozenset({b"0", b"\0", b"7"})
#: Hard and symbolic links, devices and fifos: an empty file to Helm.
_EMPTY_TYPES = frozenset({b"1", b"2", b"3", b"4", b"6"})
_FOLDER_BITS = 0o040000
#: Records of a pax header that change what an entry is; the rest is times, owners and attributes.
_REFUSED_RECORDS = re.compile(rb"GNU\.sparse\.|SUN\.devm|size$|hdrcharset$")


@dataclass
class Unpacked:
    """File paths of an archive below its top folder, in order, and the content of the requested files.

    ``nested`` holds the same for each archive in its ``charts/``, by its path, which is one of the paths.
    """

    paths: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    nested: dict[str, "Unpacked"] = field(default_factory=dict)


#: Whether to keep a file's content, by its path and by how many archives lie around the one that holds it.
Keep = Callable[[str, int], bool]


def unpack(source: BinaryIO, *, budget: Budget, keep: Keep, archive: str = "archive", depth: int = 0) -> Unpacked:
    """Return the paths and the kept files of a gzipped tar that is safe for Helm; raise InvalidChart.

    Reads the source to its end. Archives in ``charts/`` are checked the same way, with the same budget; ``archive``
    names this one in error messages.
    """
    found = Unpacked()
    seen: set[str] = set()
    stream = _Gunzip(source, budget=budget, archive=archive)
    for entry in _entries(stream, budget=budget, archive=archive):
        if entry.is_folder:
            continue
        path = _path(entry.name, archive=archive)
        if path not in seen:
            seen.add(path)
            found.paths.append(path)
        if _NESTED.fullmatch(path):
            inner = f"{archive}: {path}"
            budget.check_depth(depth + 1, archive=inner)
            content = io.BytesIO(entry.read())
            unpacked = unpack(content, budget=budget, keep=keep, archive=inner, depth=depth + 1)
            found.nested.setdefault(path, unpacked)
            continue
        if keep(path, depth):
            found.files[path] = entry.read()
    if "Chart.yaml" not in seen:
        raise InvalidChart(f"{archive}: no Chart.yaml in its top folder; pack the chart with 'helm package'")
    return found


def _path(name: str, *, archive: str) -> str:
    """Return the path below the top folder, cleaned as Helm cleans it."""
    # An archive made on Windows may part folders by backslashes.
    parts = name.split("\\" if "\\" in name else "/")
    path = "/".join(parts[1:])
    if path.startswith("/"):
        raise InvalidChart(f"{archive}: {name!r} is an absolute path")
    path = posixpath.normpath(path)
    if parts[0] == "Chart.yaml":
        raise InvalidChart(f"{archive}: Chart.yaml is not in a folder; a chart archive has one top folder")
    if path == ".":
        raise InvalidChart(f"{archive}: {name!r} lies outside the chart's folder")
    if path.startswith(".."):
        raise InvalidChart(f"{archive}: {name!r} leads out of the chart's folder")
    if _DRIVE.match(path):
        raise InvalidChart(f"{archive}: {name!r} names a drive")
    if _APPLE_DOUBLE.fullmatch(path):
        raise InvalidChart(
            f"{archive}: {name!r} is a file of macOS' own, which Helm would render as a template; "
            "pack the chart with 'helm package', or with COPYFILE_DISABLE=1 before 'tar'"
        )
    return path


class _Gunzip:
    """Inflates a gzip stream piece by piece, charging the budget before a piece is used."""

    def __init__(self, source: BinaryIO, *, budget: Budget, archive: str) -> None:
        self._source = source
        self._budget = budget
        self._archive = archive
        self._inflater: zlib._Decompress | None = zlib.decompressobj(wbits=31)
        self._members = 1
        self._buffer = bytearray()
        self._pending = self._read_magic(b"")
        if not self._pending:
            raise InvalidChart(f"{archive}: empty")
        if not self._pending.startswith(_GZIP_MAGIC):
            raise InvalidChart(f"{archive}: not a gzip file; pack the chart with 'helm package'")

    def read(self, size: int) -> bytes:
        """Return exactly ``size`` bytes, or fewer at the end of the stream."""
        while len(self._buffer) < size:
            piece = self._piece()
            if not piece:
                break
            self._buffer += piece
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def read_exactly(self, size: int) -> bytes:
        """Return ``size`` bytes, or raise InvalidChart."""
        data = self.read(size)
        if len(data) < size:
            raise InvalidChart(f"{self._archive}: the tar ends in the middle of a file; upload it again")
        return data

    def skip(self, size: int) -> None:
        """Read and discard ``size`` bytes."""
        while size:
            size -= len(self.read_exactly(min(size, _PIECE)))

    def expect_zeros_to_end(self) -> None:
        """Read to the end of the source; anything but padding is InvalidChart."""
        while piece := self.read(_PIECE):
            if piece.count(0) != len(piece):
                raise InvalidChart(f"{self._archive}: holds data after the end of the tar")

    def _piece(self) -> bytes:
        """Return the next inflated piece; empty at the end."""
        while self._inflater is not None:
            data = self._pending or self._source.read(_PIECE)
            try:
                piece = self._inflater.decompress(data, _PIECE)
            except zlib.error as error:
                raise InvalidChart(f"{self._archive}: the gzip data is damaged; upload it again") from error
            self._pending = self._inflater.unconsumed_tail
            if self._inflater.eof:
                self._next_member(self._inflater.unused_data)
            elif not data and not piece:
                raise InvalidChart(f"{self._archive}: the gzip data ends too early; upload it again")
            if piece:
                self._budget.charge_bytes(len(piece), archive=self._archive)
                return piece
        return b""

    def _read_magic(self, data: bytes) -> bytes:
        """Return the data with what follows it, long enough to detect a gzip header, unless the source ends."""
        while len(data) < len(_GZIP_MAGIC) and (more := self._source.read(_PIECE)):
            data += more
        return data

    def _next_member(self, rest: bytes) -> None:
        """Continue with the next member, as Go's reader does, or end the stream."""
        rest = self._read_magic(rest)
        if rest.startswith(_GZIP_MAGIC):
            self._members += 1
            if self._members > _MEMBERS:
                raise InvalidChart(f"{self._archive}: more than {_MEMBERS} gzip members")
            self._inflater, self._pending = zlib.decompressobj(wbits=31), rest
            return
        while rest:
            if rest.count(0) != len(rest):
                raise InvalidChart(f"{self._archive}: holds data after the end of the gzip data")
            rest = self._source.read(_PIECE)
        self._inflater, self._pending = None, b""


@dataclass
class _Entry:
    """One file or folder; call ``read`` before asking for the next entry, or never."""

    name: str
    is_folder: bool
    size: int
    stream: _Gunzip
    content: bytes | None = None

    def read(self) -> bytes:
        """Return the file's content."""
        if self.content is None:
            self.content = self.stream.read_exactly(self.size)
        return self.content


def _entries(stream: _Gunzip, *, budget: Budget, archive: str) -> Iterator[_Entry]:
    """Yield files and folders in order; read the stream to its end."""
    long_name: bytes | None = None
    while (header := stream.read(_BLOCK)) and header != _ZERO_BLOCK:
        budget.charge_entry(archive=archive)
        if len(header) < _BLOCK:
            raise InvalidChart(f"{archive}: not a whole tar; upload it again")
        _check_sum(header, archive=archive)
        kind, size = header[156:157], _octal(header[124:136], archive=archive)
        if kind in (b"x", b"g", b"L", b"K"):
            extension = _read_extension(stream, kind=kind, size=size, archive=archive)
            if extension is not None and long_name is not None:
                raise InvalidChart(f"{archive}: an entry with two long names")
            long_name = extension if extension is not None else long_name
            continue
        name = _text(_header_name(header, archive=archive) if long_name is None else long_name, archive=archive)
        long_name = None
        is_folder = kind == b"5" or _octal(header[100:108], archive=archive) & ~0o7777 == _FOLDER_BITS
        is_folder = is_folder or (kind == b"\0" and name.endswith("/"))
        _check_entry(name=name, kind=kind, size=size, is_folder=is_folder, budget=budget, archive=archive)
        yield (entry := _Entry(name=name, is_folder=is_folder, size=size, stream=stream))
        if entry.content is None:
            stream.skip(entry.size)
        stream.skip(-size % _BLOCK)
    if long_name is not None:
        raise InvalidChart(f"{archive}: ends after an extension header")
    if header:
        stream.expect_zeros_to_end()


def _check_entry(*, name: str, kind: bytes, size: int, is_folder: bool, budget: Budget, archive: str) -> None:
    if kind not in _FILE_TYPES | _EMPTY_TYPES | {b"5"}:
        what = "a sparse file" if kind == b"S" else f"an entry of type {kind!r}"
        raise InvalidChart(f"{archive}: {name!r} is {what}; a chart archive holds files, links and folders only")
    if size and (is_folder or kind in _EMPTY_TYPES):
        raise InvalidChart(f"{archive}: the {'folder' if is_folder else 'link or device'} {name!r} has content")
    budget.check_file(size, name=name, archive=archive)


def _read_extension(stream: _Gunzip, *, kind: bytes, size: int, archive: str) -> bytes | None:
    """Return the name that a pax or GNU header gives the next entry, if any; link targets are ignored."""
    if size > _EXTENSION_BYTES:
        raise InvalidChart(f"{archive}: a tar extension header of {size} bytes; the limit is {_EXTENSION_BYTES}")
    data = stream.read_exactly(size)
    stream.skip(-size % _BLOCK)
    if kind == b"L":
        return data.split(b"\0", 1)[0]
    # A global header holds for no entry in Go's reader, so it must hold for none here.
    return _pax_path(data, archive=archive) if kind == b"x" else None


def _pax_path(data: bytes, *, archive: str) -> bytes | None:
    """Return ``path`` from records of the form length, blank, key, equals sign, value and newline."""
    path: bytes | None = None
    start = 0
    while start < len(data):
        space = data.find(b" ", start, start + 8)
        digits = data[start:space] if space > 0 else b""
        end = start + int(digits) if digits.isdigit() else 0
        if end <= space + 1 or end > len(data) or data[end - 1 : end] != b"\n":
            raise InvalidChart(f"{archive}: a damaged pax header")
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not equals or _REFUSED_RECORDS.match(key):
            shown = key[:40].decode("ascii", "replace")
            raise InvalidChart(
                f"{archive}: the pax record {shown!r} is not accepted; pack the chart with 'helm package'"
            )
        if key == b"path":
            path = value
        start = end
    return path


def _check_sum(header: bytes, *, archive: str) -> None:
    stated = _octal(header[148:156], archive=archive)
    blanked = header[:148] + b" " * 8 + header[156:]
    unsigned = sum(blanked)
    # Old writers summed signed bytes.
    if stated not in (unsigned, unsigned - 256 * sum(map((127).__lt__, blanked))):
        raise InvalidChart(f"{archive}: not a tar, or a damaged one (wrong header checksum)")


def _octal(text: bytes, *, archive: str) -> int:
    """Parse a number field; the binary form is for sizes that no chart has."""
    digits = text.strip(b" \0")
    if not _OCTAL.fullmatch(digits):
        raise InvalidChart(f"{archive}: not a tar, or a damaged one (a size or checksum is not octal)")
    return int(digits or b"0", 8)


def _header_name(header: bytes, *, archive: str) -> bytes:
    """Return the name of a header block; only the ustar form has a prefix."""
    name = header[:100].split(b"\0", 1)[0]
    if header[257:263] == b"ustar\0":
        if header[508:512] == b"tar\0":
            raise InvalidChart(f"{archive}: written in star's own tar format; pack the chart with 'helm package'")
        prefix = header[345:500].split(b"\0", 1)[0]
        return prefix + b"/" + name if prefix else name
    return name


def _text(name: bytes, *, archive: str) -> str:
    try:
        text = name.decode()
    except UnicodeDecodeError:
        raise InvalidChart(f"{archive}: the file name {name!r} is not UTF-8") from None
    if not text or not all(map(str.isprintable, text)):
        raise InvalidChart(f"{archive}: the file name {text!r} is empty or holds control characters")
    return text

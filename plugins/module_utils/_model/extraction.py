# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""What an extraction is asked for, and the record that stays beside its image."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.encryption import NONE
from ansible_collections.virt.backup.plugins.module_utils._model.extent import CLUSTER
from ansible_collections.virt.backup.plugins.module_utils._model.level import Level
from ansible_collections.virt.backup.plugins.module_utils._model.place import Place
from ansible_collections.virt.backup.plugins.module_utils._model.text import is_printable, quoted

RECORD_FORMAT = 1

_LARGEST = 2**63 - 1
_KINDS: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float), "bool": (bool,)}


def _check_field(name: str, kind: str, value: object) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless a record may say that; a manifest takes over what it says."""
    if not isinstance(value, _KINDS[kind]) or isinstance(value, bool) is not (kind == "bool"):
        raise TypeError(f"{name} has the wrong type ({type(value).__name__})")
    if isinstance(value, str):
        if not is_printable(value):
            raise ValueError(f"{name} holds a newline or another control character")
    elif not 0 <= t.cast(float, value) <= _LARGEST:
        raise ValueError(f"{name} is out of range")


@dataclasses.dataclass(frozen=True)
class ImageRequest:
    """One image of a call. ``bitmap`` makes it incremental; ``backing_file`` is stored as it is given."""

    uri: str
    dest: str
    format: str = "qcow2"
    bitmap: str = ""
    backing_file: str = ""
    backing_format: str = "qcow2"
    source_id: str = ""
    encryption: str = NONE
    record: str = ""
    place: Place = Place.FILE
    cluster_size: int = CLUSTER

    @property
    def level(self) -> Level:
        """What the image will hold."""
        return Level.INCREMENTAL if self.bitmap else Level.FULL


@dataclasses.dataclass(frozen=True)
class Mismatch:
    """An increment that must not be: the disk is not what its base and its bitmap say. ``problem`` is of the base.

    ``offset`` and ``length``, in bytes of the disk, are of the first clean range that differs; both are 0 when the base
    can't be read.
    """

    dest: str
    export: str
    backing_file: str
    problem: str
    offset: int = 0
    length: int = 0

    def as_dict(self) -> dict[str, t.Any]:
        """Return plain data for a result."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Record:
    """What ``vda.json`` beside ``vda.qcow2`` says: which moment of which export the image is, and its totals.

    ``size`` is the export's in bytes, ``bytes_stored`` what the file takes on disk, ``file_bytes`` its length.
    ``written_to`` names what was overwritten in place; a file has its record beside it.
    ``clean_compared`` counts the clean clusters that were found the same on the disk and in the chain below.
    ``digest`` is empty without a checksum; ``encryption`` is ``luks`` or ``none``. ``seconds`` run from the first
    connection to the last fsync. ``durable`` is whether that fsync, or the server's flush, promised anything.
    """

    source_id: str
    export: str
    level: Level
    format: str
    bitmap: str
    backing_file: str
    backing_format: str
    compression: str
    size: int
    bytes_copied: int
    bytes_zeroed: int
    bytes_stored: int
    file_bytes: int
    extents: int
    seconds: float
    digest: str
    record_format: int = RECORD_FORMAT
    encryption: str = NONE
    written_to: str = ""
    durable: bool = True
    clean_compared: int = 0

    def as_dict(self) -> dict[str, t.Any]:
        """Return plain data for JSON."""
        return {**dataclasses.asdict(self), "level": self.level.value}

    @classmethod
    def from_dict(cls, data: dict[str, t.Any]) -> Record:
        """Return the record from plain data; raises ``KeyError``, ``TypeError`` or ``ValueError`` when it is none."""
        if data["record_format"] != RECORD_FORMAT:
            raise ValueError(f"record_format is {quoted(data['record_format'])}")
        kinds = {field.name: str(field.type) for field in dataclasses.fields(cls) if field.name != "level"}
        fields = {name: value for name, value in data.items() if name in kinds}
        for name, value in fields.items():
            _check_field(name, kinds[name], value)
        return cls(**fields, level=Level(data["level"]))

    def is_of(self, image: ImageRequest, export: str, written_to: str = "") -> bool:
        """Whether it describes just the image that is asked for: same moment, same export, same kind."""
        kind = (image.level, image.format, image.bitmap, image.backing_file, image.encryption)
        asked = (image.source_id, export, *kind, written_to)
        return bool(self.source_id) and asked == (
            self.source_id,
            self.export,
            self.level,
            self.format,
            self.bitmap,
            self.backing_file,
            self.encryption,
            self.written_to,
        )

# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The gateway to libvirt: the only file that imports it.

Every ``libvirtError`` leaves as a :class:`LibvirtFailure` with its code and text kept and what to do added, or as the
plain answer that the code stands for ("there is no such checkpoint", "there is no job").
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError, InputError, LibvirtFailure
from ansible_collections.virt.backup.plugins.module_utils._model.libvirt_error import (
    CPU_INCOMPATIBLE,
    INVALID_ARG,
    NO_BACKUP_JOB,
    NO_CHECKPOINT,
    NO_DOMAIN,
    NO_SUPPORT,
    OPERATION_FAILED,
    OPERATION_INVALID,
    remedy,
)

HAS_LIBVIRT = True
try:
    import libvirt
except ImportError:
    HAS_LIBVIRT = False

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Answer = t.TypeVar("Answer")

# virDomainState (with a reason of one, virDomainPausedReason) and the operation of virDomainJobInfo
# (VIR_DOMAIN_JOB_OPERATION_BACKUP).
_STATES = ("nostate", "running", "blocked", "paused", "shutdown", "shutoff", "crashed", "pmsuspended")
_PAUSED, _PAUSED_IOERROR = 3, 5
_OPERATION_BACKUP = 9
_JOB_NONE = 0
_JOB_COMPLETED = 3

_POLL_SECONDS = 0.1
_FREEZE_SECONDS = 60.0

# By value: older clients lack the name.
_UNDEFINE_KEEP_TPM = 64
# virDomainBackupBeginFlags, by value: a client older than the daemon lacks the name.
_PRESERVE_SHUTDOWN_DOMAIN = 2


def require_libvirt() -> None:
    """Raise a :class:`BackupError` that names the package where libvirt-python is missing."""
    if not HAS_LIBVIRT:
        raise BackupError(
            f"The Python library libvirt is not installed for {sys.executable}; "
            "install python3-libvirt, or set ansible_python_interpreter to a Python that has it."
        )


@contextlib.contextmanager
def _translated(action: str) -> Iterator[None]:
    try:
        yield
    except libvirt.libvirtError as error:
        raise _failure(action, error) from error


def _failure(action: str, error: libvirt.libvirtError) -> LibvirtFailure:
    code = error.get_error_code() or 0
    text = _text(error)
    return LibvirtFailure(action, code, text, remedy(code, text))


def _text(error: libvirt.libvirtError) -> str:
    """Return libvirt's sentence on one line: what it passes on of ssh and of QEMU may have several."""
    return " ".join((error.get_error_message() or str(error)).split())


def _version(number: int) -> str:
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"


@contextlib.contextmanager
def connect(uri: str) -> Iterator[Hypervisor]:
    """Connect to the daemon at ``uri`` and close the connection at the end."""
    require_libvirt()
    # Without a handler libvirt writes each error to stderr as well, in the middle of a module's result.
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    try:
        connection = libvirt.open(uri)
    except libvirt.libvirtError as error:
        text = _text(error).rstrip(".")
        problem = f"cannot be reached (libvirt error {error.get_error_code()}: {text})"
        remedy = "check that libvirtd or virtqemud runs there and that this user may connect"
        raise InputError("uri", uri, problem, remedy) from error
    try:
        yield Hypervisor(connection, uri)
    finally:
        connection.close()


class Hypervisor:
    """A connection to one libvirt daemon."""

    def __init__(self, connection: libvirt.virConnect, uri: str) -> None:
        self._connection = connection
        self.uri = uri

    @property
    def is_local(self) -> bool:
        """Whether the daemon shares this machine's file system, so that paths can be looked at."""
        scheme, _separator, rest = self.uri.partition("://")
        return "+" not in scheme.replace("+unix", "") and rest.startswith("/")

    def require_backups(self) -> None:
        """Refuse a driver other than QEMU's: no other has backups, and what would fail is better told beforehand."""
        with _translated("Asking for the driver"):
            driver = self._connection.getType()
        if driver != "QEMU":
            remedy = "use one of QEMU, such as qemu:///system"
            raise InputError("uri", self.uri, f"is of the driver {driver}, which has no backups", remedy)

    def versions(self) -> dict[str, str]:
        """Return the versions of the daemon, of QEMU and of the Python binding's library."""
        with _translated("Asking for versions"):
            return {
                "libvirt": _version(self._connection.getLibVersion()),
                "qemu": _version(self._connection.getVersion()),
                "libvirt_python": _version(libvirt.getVersion()),
            }

    def version(self) -> int:
        """Return the daemon's version as libvirt counts: 11010000 is 11.10.0. The binding's own says nothing of it."""
        with _translated("Asking for the version"):
            return int(self._connection.getLibVersion())

    def supports_backup(self) -> bool:
        """Whether the domain capabilities announce incremental backup (libvirt 7.6 with QEMU 6.1 and later)."""
        with _translated("Asking for the domain capabilities"):
            return "<backup supported='yes'/>" in self._connection.getDomainCapabilities(None, None, None, None, 0)

    def domain(self, name: str) -> DomainHandle:
        """Look a domain up by name, then by UUID."""
        for lookup in (self._connection.lookupByName, self._connection.lookupByUUIDString):
            try:
                return DomainHandle(lookup(name), self.uri)
            except libvirt.libvirtError as error:
                if error.get_error_code() not in (NO_DOMAIN, INVALID_ARG):
                    raise _failure(f"Looking up domain '{name}'", error) from error
        known = ", ".join(handle.name for handle in self.domains()) or "none"
        raise InputError("domain", name, f"is no domain of {self.uri}", f"it has: {known}")

    def domains(self) -> list[DomainHandle]:
        """Return all domains, by name."""
        with _translated("Listing domains"):
            handles = [DomainHandle(domain, self.uri) for domain in self._connection.listAllDomains()]
        return sorted(handles, key=lambda handle: handle.name)

    # What there is for a domain that comes back

    def capabilities(self) -> str:
        """Return the XML of the host's capabilities."""
        with _translated("Asking for the capabilities of the host"):
            return t.cast(str, self._connection.getCapabilities())

    def domain_capabilities(self, arch: str, virt_type: str, machine: str) -> str:
        """Return the XML of what the host's own emulator for ``arch`` can do as that machine."""
        with _translated("Asking for the domain capabilities"):
            answer = self._connection.getDomainCapabilities(None, arch or None, machine or None, virt_type or None, 0)
            return t.cast(str, answer)

    def cpu_complaint(self, cpu: str, arch: str, virt_type: str, machine: str) -> str | None:
        """Return what the host lacks for a ``<cpu>`` element, empty when nothing, ``None`` when libvirt can't tell."""
        flags = libvirt.VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE
        options = (None, arch or None, machine or None, virt_type or None)
        try:
            self._connection.compareHypervisorCPU(*options, cpu, flags)
        except libvirt.libvirtError as error:
            return _text(error) if error.get_error_code() == CPU_INCOMPATIBLE else None
        return ""

    def networks(self) -> dict[str, bool]:
        """Return libvirt's networks by name, and whether each is active."""
        return self._listed(self._connection.listAllNetworks)

    def network_xml(self, name: str) -> str:
        """Return the XML of a network, empty when there is none of that name."""
        try:
            return t.cast(str, self._connection.networkLookupByName(name).XMLDesc(0))
        except libvirt.libvirtError:
            return ""

    def pools(self) -> dict[str, bool]:
        """Return the storage pools by name, and whether each is active."""
        return self._listed(self._connection.listAllStoragePools)

    def _listed(self, call: Callable[[], list[t.Any]]) -> dict[str, bool]:
        """List things of a driver that may not be there; without it there is none."""
        try:
            return {found.name(): bool(found.isActive()) for found in call()}
        except libvirt.libvirtError:
            return {}

    def pool_xml(self, name: str) -> str:
        """Return the XML of a storage pool."""
        with _translated(f"Reading the XML of storage pool '{name}'"):
            return t.cast(str, self._connection.storagePoolLookupByName(name).XMLDesc(0))

    def refresh_pool(self, name: str) -> None:
        """Let libvirt look at what is in a storage pool now."""
        with _translated(f"Refreshing storage pool '{name}'"):
            self._connection.storagePoolLookupByName(name).refresh(0)

    def volume_path(self, pool: str, volume: str) -> str:
        """Return the path of a volume, empty when there is none."""
        try:
            return t.cast(str, self._connection.storagePoolLookupByName(pool).storageVolLookupByName(volume).path())
        except libvirt.libvirtError:
            return ""

    def has_secret(self, uuid: str) -> bool:
        """Whether libvirt has a secret of that UUID."""
        try:
            return self._connection.secretLookupByUUIDString(uuid) is not None
        except libvirt.libvirtError:
            return False

    def keeps_tpm(self) -> bool:
        """Whether the daemon can leave the state of a TPM when it forgets a domain (libvirt 8.9)."""
        with _translated("Asking for versions"):
            return bool(self._connection.getLibVersion() >= 8009000)

    def define(self, xml: str) -> DomainHandle:
        """Define a domain, in the place of the definition that one of the same UUID has."""
        with _translated("Defining the domain"):
            return DomainHandle(self._connection.defineXML(xml), self.uri)


class DomainHandle:
    """One domain, as far as backups are concerned."""

    def __init__(self, domain: libvirt.virDomain, uri: str) -> None:
        self._domain = domain
        self.uri = uri
        self.name: str = domain.name()
        self.uuid: str = domain.UUIDString()

    def state(self) -> str:
        """Return the domain's state in one word, such as ``running``, ``paused`` or ``shutoff``."""
        with _translated(f"Asking for the state of domain '{self.name}'"):
            number = self._domain.state(0)[0]
        return _STATES[number] if number < len(_STATES) else "unknown"

    def is_active(self) -> bool:
        """Whether the domain has a running QEMU."""
        with _translated(f"Asking for the state of domain '{self.name}'"):
            return bool(self._domain.isActive())

    def is_paused_by_io_error(self) -> bool:
        """Whether the guest stands still since a write or read of its failed (``error_policy`` of the disk)."""
        with _translated(f"Asking for the state of domain '{self.name}'"):
            state, reason = self._domain.state(0)
        return (state, reason) == (_PAUSED, _PAUSED_IOERROR)

    def is_persistent(self) -> bool:
        """Whether the domain's definition outlives its QEMU."""
        with _translated(f"Asking for the state of domain '{self.name}'"):
            return bool(self._domain.isPersistent())

    def xml(self) -> str:
        """Return the live XML (of a domain that is off: its definition)."""
        with _translated(f"Reading the XML of domain '{self.name}'"):
            return t.cast(str, self._domain.XMLDesc(0))

    def definition(self, *, secure: bool, running: bool = False) -> str:
        """Return XML that ``virsh define`` takes, with secrets when ``secure``.

        ``running`` asks for the domain as it runs (what a migration would send), not as its next start would make it.
        """
        flags = libvirt.VIR_DOMAIN_XML_MIGRATABLE if running else libvirt.VIR_DOMAIN_XML_INACTIVE
        flags |= libvirt.VIR_DOMAIN_XML_SECURE if secure else 0
        with _translated(f"Reading the definition of domain '{self.name}'"):
            return t.cast(str, self._domain.XMLDesc(flags))

    def start(self, *, paused: bool) -> None:
        """Start the domain from the beginning, also where a saved state of it lies."""
        flags = libvirt.VIR_DOMAIN_START_FORCE_BOOT | (libvirt.VIR_DOMAIN_START_PAUSED if paused else 0)
        with _translated(f"Starting domain '{self.name}'"):
            self._domain.createWithFlags(flags)

    def start_as(self, xml: str, *, paused: bool) -> None:
        """Start the domain as ``xml`` says; the next start is as its definition says again. No saved state is resumed.

        libvirt keeps the definition beside what runs (virDomainCreateXML, of a domain that it has a definition of).
        """
        with _translated(f"Starting domain '{self.name}'"):
            self._domain.connect().createXML(xml, libvirt.VIR_DOMAIN_START_PAUSED if paused else 0)
        if self.has_saved_state():
            self.drop_saved_state()

    def resume(self) -> None:
        """Let a paused domain go on."""
        with _translated(f"Resuming domain '{self.name}'"):
            self._domain.resume()

    def destroy(self) -> None:
        """Cut the power."""
        with _translated(f"Stopping domain '{self.name}'"):
            self._domain.destroy()

    def undefine(self, *, keep_tpm: bool) -> None:
        """Forget the definition and nothing else; ``keep_tpm`` where the daemon knows that flag (libvirt 8.9)."""
        flags = libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM | (_UNDEFINE_KEEP_TPM if keep_tpm else 0)
        with _translated(f"Undefining domain '{self.name}'"):
            self._domain.undefineFlags(flags)

    def remove(self) -> None:
        """Forget the definition with all that libvirt keeps for it: NVRAM, TPM, saved memory, metadata."""
        flags = libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
        flags |= libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
        with _translated(f"Removing domain '{self.name}'"):
            self._domain.undefineFlags(flags)

    def has_saved_state(self) -> bool:
        """Whether the next start would resume the memory of an earlier run (``virsh managedsave``)."""
        with _translated(f"Asking for the saved state of domain '{self.name}'"):
            return bool(self._domain.hasManagedSaveImage(0))

    def drop_saved_state(self) -> None:
        """Delete the memory that the next start would resume."""
        with _translated(f"Deleting the saved state of domain '{self.name}'"):
            self._domain.managedSaveRemove(0)

    def snapshot_names(self) -> list[str]:
        """Return the names of the domain's snapshots."""
        with _translated(f"Listing the snapshots of domain '{self.name}'"):
            return list(self._domain.snapshotListNames(0))

    def capacity(self, disk: str) -> int:
        """Return the virtual size of a disk in bytes, 0 where libvirt cannot tell (no medium, say)."""
        try:
            return int(self._domain.blockInfo(disk, 0)[0])
        except libvirt.libvirtError:
            return 0

    # Checkpoints

    def checkpoint_xmls(self, *, measure: bool) -> list[str]:
        """Return the XML of every checkpoint, parents first; ``measure`` adds the sizes and needs a running domain."""
        flags = libvirt.VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN
        if measure:
            flags |= libvirt.VIR_DOMAIN_CHECKPOINT_XML_SIZE
        with _translated(f"Listing the checkpoints of domain '{self.name}'"):
            found = self._domain.listAllCheckpoints(libvirt.VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL)
            return [checkpoint.getXMLDesc(flags) for checkpoint in found]

    def checkpoint_xml(self, name: str) -> str | None:
        """Return the XML of one checkpoint without sizes, or ``None`` when there is none of that name."""
        checkpoint = self._checkpoint(name)
        if checkpoint is None:
            return None
        with _translated(f"Reading checkpoint '{name}'"):
            return t.cast(str, checkpoint.getXMLDesc(libvirt.VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN))

    def _checkpoint(self, name: str) -> libvirt.virDomainCheckpoint | None:
        try:
            return self._domain.checkpointLookupByName(name, 0)
        except libvirt.libvirtError as error:
            if error.get_error_code() == NO_CHECKPOINT:
                return None
            raise _failure(f"Looking up checkpoint '{name}'", error) from error

    def create_checkpoint(self, xml: str, *, redefine: bool = False, validate: bool = False) -> None:
        """Create a checkpoint, or give a lost definition back to libvirt."""
        flags = libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE if redefine else 0
        if redefine and validate:
            flags |= libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE_VALIDATE
        with _translated(f"{'Redefining' if redefine else 'Creating'} the checkpoint of domain '{self.name}'"):
            self._domain.checkpointCreateXML(xml, flags)

    def checkpoint_descendants(self, name: str) -> list[str]:
        """Return the names of all checkpoints that have this one above them."""
        checkpoint = self._checkpoint(name)
        if checkpoint is None:
            return []
        with _translated(f"Listing the children of checkpoint '{name}'"):
            children = checkpoint.listAllChildren(libvirt.VIR_DOMAIN_CHECKPOINT_LIST_DESCENDANTS)
            return [child.getName() for child in children]

    def delete_checkpoint(self, name: str, *, children: bool = False, metadata_only: bool = False) -> None:
        """Delete a checkpoint with its bitmaps; does nothing when it does not exist."""
        checkpoint = self._checkpoint(name)
        if checkpoint is None:
            return
        flags = libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_CHILDREN if children else 0
        if metadata_only:
            flags |= libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY
        with _translated(f"Deleting checkpoint '{name}' of domain '{self.name}'"):
            checkpoint.delete(flags)

    # The job

    def job_xml(self) -> str | None:
        """Return the XML of the active backup job, or ``None`` when there is none."""
        try:
            return t.cast(str, self._domain.backupGetXMLDesc(0))
        except libvirt.libvirtError as error:
            # A driver without backups (that of the tests, say) has no job either.
            if error.get_error_code() in (NO_SUPPORT, NO_BACKUP_JOB, OPERATION_INVALID):
                return None
            raise _failure(f"Asking for the backup job of domain '{self.name}'", error) from error

    def begin_backup(
        self, xml: str, checkpoint_xml: str | None, *, reuse_external: bool, preserve: bool = False
    ) -> None:
        """Start a backup job, with a checkpoint in the same moment when ``checkpoint_xml`` is given.

        With ``preserve`` the job goes on when the guest shuts down (``_decide.capability`` tells who can).
        """
        flags = libvirt.VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL if reuse_external else 0
        flags |= _PRESERVE_SHUTDOWN_DOMAIN if preserve else 0
        with _translated(f"Starting the backup of domain '{self.name}'"):
            self._domain.backupBegin(xml, checkpoint_xml, flags)

    def abort_job(self) -> None:
        """Ask libvirt to end the active job; it returns before the job has ended."""
        try:
            self._domain.abortJob()
        except libvirt.libvirtError as error:
            if error.get_error_code() not in (NO_BACKUP_JOB, OPERATION_INVALID):
                raise _failure(f"Ending the backup job of domain '{self.name}'", error) from error

    def wait_until_job_ended(self, timeout: float) -> bool:
        """Wait until libvirt has let go of the backup job; ``False`` when ``timeout`` seconds did not suffice."""
        deadline = time.monotonic() + timeout
        while self.job_xml() is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def completed_backup(self) -> dict[str, t.Any] | None:
        """Return the record of the last job when that was a backup, and leave it in place for others.

        Keys: ``success`` and ``pushed`` (bool), ``errmsg`` (text, may be empty). Only a push job counts bytes of its
        disks, so ``pushed`` is false for every pull job, and for a push that had nothing to write. The record lives in
        the daemon's memory only.
        """
        flags = libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED | libvirt.VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED
        try:
            stats = self._domain.jobStats(flags)
        except libvirt.libvirtError:
            return None
        if stats.get("operation") != _OPERATION_BACKUP or stats.get("type", _JOB_NONE) == _JOB_NONE:
            return None
        success = bool(stats.get("success", stats["type"] == _JOB_COMPLETED)) and stats["type"] == _JOB_COMPLETED
        return {"success": success, "pushed": "disk_total" in stats, "errmsg": str(stats.get("errmsg", ""))}

    # A live copy of a disk

    def begin_disk_copy(self, disk: str, xml: str, *, bandwidth: int, reuse: bool) -> None:
        """Begin to copy a disk of the running domain; ``bandwidth`` in bytes per second, 0 for no limit.

        The job lives as long as this QEMU. Without ``reuse`` libvirt makes the destination's file.
        """
        flags = libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB
        flags |= libvirt.VIR_DOMAIN_BLOCK_COPY_REUSE_EXT if reuse else 0
        parameters = {libvirt.VIR_DOMAIN_BLOCK_COPY_BANDWIDTH: bandwidth} if bandwidth else {}
        with _translated(f"Beginning to copy disk '{disk}' of domain '{self.name}'"):
            self._domain.blockCopy(disk, xml, parameters, flags)

    def disk_job_progress(self, disk: str) -> tuple[int, int] | None:
        """Return how many bytes a disk's job has done and of how many, ``None`` when it has no job."""
        with _translated(f"Asking for the job of disk '{disk}' of domain '{self.name}'"):
            job = self._domain.blockJobInfo(disk, 0)
        return (int(job["cur"]), int(job["end"])) if job else None

    def end_disk_copy(self, disk: str, *, pivot: bool) -> None:
        """End a disk's copy: the domain goes on with the copy, or with what it had. Waits until that is done."""
        flags = libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT if pivot else 0
        with _translated(f"Ending the copy of disk '{disk}' of domain '{self.name}'"):
            self._domain.blockJobAbort(disk, flags)

    def has_other_job(self) -> bool:
        """Whether a job runs that is no backup (migration, save, snapshot): a begin would wait for it half a minute."""
        with _translated(f"Asking for the jobs of domain '{self.name}'"):
            return bool(self._domain.jobInfo()[0] != _JOB_NONE) and self.job_xml() is None

    def stop_lost_server(self) -> list[str]:
        """Stop the NBD server of a job that libvirt has lost, and drop its scratch; return the nodes it exported.

        A daemon that dies between the end of a job's blocks and its clean-up forgets the job, while QEMU goes on
        serving (seen with libvirt 9.0); no call of libvirt ends that server, and no other backup can begin beside it.
        So QEMU is told by its monitor, for which libvirt marks the domain as tainted. Only while there is no job.
        """
        nodes = [
            export["node-name"]
            for export in self._monitor("query-block-exports")
            if export["type"] == "nbd" and export["id"] == f"libvirt-nbd-{export['node-name']}"
        ]
        if nodes:
            self._monitor("nbd-server-stop")
        for node in nodes:
            # libvirt's names for the two layers of an image: its format, and the file below.
            for layer in (node, node.replace("-format", "-storage")):
                with contextlib.suppress(LibvirtFailure):
                    self._monitor("blockdev-del", {"node-name": layer})
        return nodes

    def _monitor(self, command: str, arguments: dict[str, str] | None = None) -> t.Any:
        import libvirt_qemu

        document = json.dumps({"execute": command, "arguments": arguments or {}})
        with _translated(f"Telling the QEMU of domain '{self.name}' to do {command}"):
            answer = json.loads(libvirt_qemu.qemuMonitorCommand(self._domain, document, 0))
        if "error" in answer:
            text = str(answer["error"].get("desc", ""))
            raise LibvirtFailure(f"{command} in the QEMU of domain '{self.name}'", OPERATION_FAILED, text)
        return answer["return"]

    # The guest

    def agent(self, command: str, arguments: dict[str, t.Any], seconds: int) -> t.Any:
        """Return what the guest's agent answers to a command of its protocol, within so many seconds."""
        import libvirt_qemu

        document = json.dumps({"execute": command, "arguments": arguments})
        with _translated(f"Asking the agent of domain '{self.name}' for {command}"):
            return json.loads(libvirt_qemu.qemuAgentCommand(self._domain, document, seconds, 0))["return"]

    def screenshot(self, file: t.BinaryIO) -> str:
        """Write a picture of the first screen; return its media type, such as ``image/png``."""
        with _translated(f"Taking a screenshot of domain '{self.name}'"):
            stream = self._domain.connect().newStream(0)
            kind: str = self._domain.screenshot(stream, 0, 0)
            stream.recvAll(lambda _stream, data, target: target.write(data), file)
            stream.finish()
        return kind

    def read_console(self, opened: Callable[[], None], heard: Callable[[bytes], None]) -> None:
        """Hand on what the first serial console says, from when it is ``opened`` until the domain ends.

        For a thread with a connection of its own: beside a stream that waits, libvirt's client (seen with 9.0) can
        miss to wake up for the answer to another thread's call, and then that call never returns.
        """
        with _translated(f"Reading the serial console of domain '{self.name}'"):
            stream = self._domain.connect().newStream(0)
            self._domain.openConsole(None, stream, libvirt.VIR_DOMAIN_CONSOLE_FORCE)
            opened()
            while True:
                data = stream.recv(4096)
                if not isinstance(data, bytes) or not data:
                    return
                heard(data)

    def freeze(self) -> int:
        """Freeze the guest's file systems and return how many; gives up after a minute.

        libvirt itself would wait for the agent without an end. The call goes on in a thread that nobody waits for:
        the caller must thaw in any case, since the freeze may yet arrive.
        """
        answer = _in_time(self._domain.fsFreeze, _FREEZE_SECONDS)
        if answer is None:
            raise BackupError(
                f"The guest of domain '{self.name}' did not freeze within {_FREEZE_SECONDS:.0f} seconds; "
                "look at its guest agent, or set quiesce to never."
            )
        if isinstance(answer, libvirt.libvirtError):
            raise _failure(f"Freezing the guest of domain '{self.name}'", answer) from answer
        return answer

    def thaw(self) -> None:
        """Thaw the guest's file systems; harmless when nothing is frozen."""
        answer = _in_time(self._domain.fsThaw, _FREEZE_SECONDS)
        if answer is None:
            raise BackupError(f"The guest of domain '{self.name}' did not thaw within {_FREEZE_SECONDS:.0f} seconds.")
        if isinstance(answer, libvirt.libvirtError):
            raise _failure(f"Thawing the guest of domain '{self.name}'", answer) from answer


def _in_time(call: Callable[[], int], seconds: float) -> int | libvirt.libvirtError | None:
    """Run a call that may never return in a thread; return its number, its error, or ``None`` when time was up."""
    answers: list[int | libvirt.libvirtError] = []

    def work() -> None:
        try:
            answers.append(call())
        except libvirt.libvirtError as error:
            answers.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else None

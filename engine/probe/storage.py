"""The mount that holds a directory, and the block devices behind it."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .procfs import SECTOR_BYTES, Disk, Mount, mountinfo, whole
from .tree import UNKNOWN, Tree

# A server that does not answer holds a system call for ever: it is left to its own thread.
MOUNT_LIMIT_S = 3.0

_SECRET_OPTION = re.compile(r"(?i)^([^=]*(?:pass|secret|key|token|cred)[^=]*)=.*$", re.DOTALL)
_LOGIN = re.compile(r"(//|^)[^/@\s]*:[^/@\s]*@")
# overlay names every layer of an image, in one option or in one each.
_OPTION_LIMIT = 120
_OPTIONS_LIMIT = 40
_NO_DISK = re.compile(r"(loop|ram|zram|fd|sr)\d+")
_DISK_KINDS = (
    (r"nvme\d", "nvme"), (r"vd[a-z]", "virtio"), (r"xvd[a-z]", "xen"), (r"dm-", "dm"),
    (r"md(_|\d)", "md"), (r"mmcblk", "mmc"),
)  # fmt: skip
_SCSI_KINDS = (
    ("/usb", "usb"), ("/ata", "sata"), ("/virtio", "virtio"), ("/session", "iscsi"),
    ("/rport-", "fc"), ("/end_device-", "sas"), ("/vmbus", "hyperv"),
)  # fmt: skip


class Place(NamedTuple):
    """What system calls say of a directory: its nearest parent that exists stands for it."""

    real: str
    exists: bool
    device: str | None
    total_bytes: int | None


class Directory(NamedTuple):
    """Facts of a directory, and all block devices below it, the upper ones first."""

    facts: dict[str, Any]
    layers: list[str]


def directory(tree: Tree, what: str, path: str) -> Directory:
    """All facts of a directory; `what` names it in the notes of what is unknown."""
    path = os.path.normpath(Path.cwd() / path)
    place = _place(tree, what, path)
    # Read after the directory was looked at: that mounts what waits for its first user.
    text = tree.fact(f"{what}.mount_point", "/proc/self/mountinfo", str)
    mount = mount_of(mountinfo(text), place.real if place else path, place and place.device)
    facts: dict[str, Any] = {
        "path": path,
        "exists": place.exists if place else UNKNOWN,
        "mount_point": UNKNOWN,
        "type": UNKNOWN,
        "source": UNKNOWN,
        "options": UNKNOWN,
        "device": (place and place.device) or (mount and mount.device) or UNKNOWN,
        "total_bytes": (place and place.total_bytes) or UNKNOWN,
        "blocks": UNKNOWN,
    }
    if place and not place.total_bytes:
        why = "the file system says no size" if tree.is_host else "not asked below another root"
        tree.unknown(f"{what}.total_bytes", why)
    if mount is None:
        tree.errors.setdefault(what, "no mount holds it")
        return Directory(facts, [])
    below = layers(tree, what, mount, str(facts["device"]))
    facts |= {
        "mount_point": mount.mount_point,
        "type": mount.type,
        "source": without_login(mount.source),
        "options": mount_options(mount),
        "blocks": UNKNOWN if below is None else leaves(tree, below),
    }
    return Directory(facts, below or [])


def mount_of(mounts: list[Mount], real: str, device: str | None) -> Mount | None:
    """The mount that holds a path: the innermost, of equal ones the last.

    A mount with the device of the path comes first; a btrfs subvolume has one that no mount shows.
    """
    found = None
    for mount in mounts:
        inside = real == mount.mount_point or real.startswith(mount.mount_point.rstrip("/") + "/")
        if not inside:
            continue
        rank = (mount.device == device, len(mount.mount_point))
        if found is None or rank >= (found.device == device, len(found.mount_point)):
            found = mount
    return found


def mount_options(mount: Mount) -> list[str]:
    """Options of a mount and of its file system, sorted, without secrets."""
    words = {*mount.options.split(","), *mount.super_options.split(",")} - {""}
    if "ro" in words:  # one of both suffices
        words.discard("rw")
    hidden = (_SECRET_OPTION.sub(r"\1=hidden", without_login(word)) for word in words)
    short = sorted({_shortened(word) for word in hidden})
    return short if len(short) <= _OPTIONS_LIMIT else [*short[:_OPTIONS_LIMIT], "..."]


def _shortened(word: str) -> str:
    return word if len(word) <= _OPTION_LIMIT else word[:_OPTION_LIMIT] + "..."


def without_login(text: str) -> str:
    """A text without the `user:password@` of an address."""
    return _LOGIN.sub(r"\1hidden@", text)


# ---------------------------------------------------------------- system calls


def _place(tree: Tree, what: str, path: str) -> Place | None:
    """The directory as system calls see it, or None with a note where they say nothing."""
    if not tree.is_host:
        # Of a tree that is not this host, its mountinfo says what a system call would.
        return Place(tree.real(path), tree.exists(path), None, None)
    said: list[Place | OSError] = []
    asking = threading.Thread(target=lambda: said.append(_asked(path)), daemon=True)
    asking.start()
    asking.join(MOUNT_LIMIT_S)
    answer = said[0] if said else TimeoutError(f"no answer in {MOUNT_LIMIT_S:g} s")
    if isinstance(answer, Place):
        return answer
    tree.unknown(what, f"{path}: {answer.strerror or answer}")
    return None


def _asked(path: str) -> Place | OSError:
    try:
        real = Path(os.path.realpath(path))
        place = nearest(real)
        device = place.stat().st_dev
        usage = os.statvfs(place)
    except OSError as error:
        return error
    return Place(
        real=str(place),
        exists=place == real,
        device=f"{os.major(device)}:{os.minor(device)}",
        total_bytes=usage.f_blocks * usage.f_frsize or None,
    )


def nearest(path: Path) -> Path:
    """The path itself, or its nearest parent that exists. Raises OSError."""
    return next(place for place in (path, *path.parents) if _exists(place))


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


# ---------------------------------------------------------------- layers of block devices


def layers(tree: Tree, what: str, mount: Mount, device: str) -> list[str] | None:
    """Names of all block devices below a file system, the upper ones first; None: unknown.

    A file system without a block device (tmpfs, NFS, ZFS, overlay) has none.
    """
    if not device.startswith("0:"):
        path = tree.real(f"/sys/dev/block/{device}")
        if not tree.exists(path):
            tree.unknown(f"{what}.blocks", f"/sys/dev/block/{device}: not there")
            return None
        tops = [path.rpartition("/")[2]]
    else:
        # btrfs and bcachefs have a device number of their own; their source tells the disks.
        tops = [name for part in mount.source.split(":") if (name := _named(tree, part))]
        tops = _btrfs_devices(tree, tops) if mount.type == "btrfs" else tops
        if not tops and mount.type in ("btrfs", "bcachefs"):
            tree.unknown(f"{what}.blocks", f"{mount.source}: no such block device")
            return None
    found: list[str] = []
    for top in tops:
        _descend(tree, top, found)
    return found


def _named(tree: Tree, source: str) -> str | None:
    """The name in /sys of a device file such as /dev/sda1 or /dev/mapper/vg-data."""
    if not source.startswith("/dev/"):
        return None
    name = tree.real(source).removeprefix("/dev/").replace("/", "!")
    if tree.exists(f"/sys/class/block/{name}"):
        return name
    mapped = source.removeprefix("/dev/mapper/")
    for name in tree.names("/sys/class/block"):
        if (
            name.startswith("dm-")
            and tree.text(f"/sys/class/block/{name}/dm/name") == mapped + "\n"
        ):
            return name
    return None


def _btrfs_devices(tree: Tree, names: list[str]) -> list[str]:
    """All devices of the btrfs that has one of these: its source tells only the first."""
    for system in tree.names("/sys/fs/btrfs"):
        devices = tree.names(f"/sys/fs/btrfs/{system}/devices")
        if set(devices) & set(names):
            return devices
    return names


def _descend(tree: Tree, name: str, found: list[str]) -> None:
    if name in found:
        return
    path = f"/sys/class/block/{name}"
    if tree.exists(f"{path}/partition"):
        return _descend(tree, tree.real(path).split("/")[-2], found)
    found.append(name)
    if not is_multipath(tree, name):
        for slave in tree.names(f"{path}/slaves"):
            _descend(tree, slave, found)
    return None


def is_multipath(tree: Tree, name: str) -> bool:
    """Whether a dm device joins paths to one disk: its counters are those of the disk."""
    return tree.text(f"/sys/class/block/{name}/dm/uuid").startswith("mpath-")


def leaves(tree: Tree, names: list[str]) -> list[str]:
    """Of some layers those that stand on no other; without loop, ram and zram."""
    return [
        name
        for name in names
        if not _NO_DISK.fullmatch(name)
        and (is_multipath(tree, name) or not tree.names(f"/sys/class/block/{name}/slaves"))
    ]


# ---------------------------------------------------------------- disks


def block(tree: Tree, name: str) -> dict[str, Any]:
    """Facts of a leaf block device."""
    path, what = f"/sys/class/block/{name}", f"blocks.{name}"
    others = twins(tree, name)
    # A multipath device has no model: its paths have.
    seen = others[0] if others and is_multipath(tree, name) else name
    return {
        "name": name,
        "kind": disk_kind(tree, name),
        "model": _model(tree, f"{what}.model", f"/sys/class/block/{seen}/device"),
        "size_bytes": tree.fact(f"{what}.size_bytes", f"{path}/size", _size_bytes),
        "rotational": tree.fact(f"{what}.rotational", f"{path}/queue/rotational", _flag),
        "scheduler": tree.fact(f"{what}.scheduler", f"{path}/queue/scheduler", chosen),
        "twins": others,
    }


def twins(tree: Tree, name: str) -> list[str]:
    """Names of the paths to a disk: slaves of a dm-multipath, hidden devices of an NVMe one."""
    if is_multipath(tree, name):
        return tree.names(f"/sys/class/block/{name}/slaves")
    head = re.fullmatch(r"(nvme\d+)(n\d+)", name)
    if not head:
        return []
    pattern = re.compile(rf"{head[1]}c\d+{head[2]}")
    return [other for other in tree.names("/sys/class/block") if pattern.fullmatch(other)]


def disk_counters(disks: Mapping[str, Disk], name: str, others: list[str]) -> Disk | None:
    """Counters of a disk, from its paths where the disk itself counts nothing.

    Kernels before 6.4 count the I/O of NVMe multipath at the paths alone, later ones at both.
    """
    own = disks.get(name)
    paths = [disks[other] for other in others if other in disks]
    if own is not None and (own.reads or own.writes or not paths):
        return own
    if not paths:
        return None
    sums = Disk(*(sum(values) for values in zip(*paths)))
    # Paths are busy side by side.
    return sums._replace(busy_ms=max(path.busy_ms for path in paths))


def disk_kind(tree: Tree, name: str) -> str:
    """How a disk is attached, from its name and for SCSI from where it stands in /sys."""
    for pattern, kind in _DISK_KINDS:
        if re.match(pattern, name):
            return kind
    if re.match(r"sd[a-z]", name):
        path = tree.real(f"/sys/class/block/{name}").lower()
        return next((kind for part, kind in _SCSI_KINDS if part in path), "scsi")
    letters = re.match(r"[a-z]+", name)
    return letters[0] if letters else UNKNOWN


def _model(tree: Tree, what: str, device: str) -> str:
    words = f"{tree.text(f'{device}/vendor')} {tree.text(f'{device}/model')}".split()
    # "ATA" is what libata says instead of a vendor, virtio gives a PCI number.
    model = " ".join(word for word in words if word != "ATA" and not word.startswith("0x"))
    return model or tree.unknown(what, f"{device}/model: not there")


def _size_bytes(text: str) -> int | None:
    sectors = whole(text)
    return None if sectors is None else sectors * SECTOR_BYTES


def _flag(text: str) -> bool | None:
    return {"0": False, "1": True}.get(text.strip())


def chosen(text: str) -> str:
    """The choice in brackets: `mq-deadline [none]` is "none"; a single word chooses itself."""
    marked = re.search(r"\[([^\]]+)\]", text)
    return marked[1] if marked else text.strip()

"""Types of file systems, as mountinfo names them, by where their data are and who counts."""

from __future__ import annotations

# Data are on other hosts.
NETWORK_TYPES = frozenset(
    {
        "afs", "beegfs", "beegfs_nodev", "ceph", "cifs", "gpfs", "lustre", "nfs", "nfs4", "panfs",
        "pvfs2", "smb3", "wekafs", "fuse.ceph", "fuse.ceph-fuse", "fuse.daos", "fuse.gcsfuse",
        "fuse.glusterfs", "fuse.juicefs", "fuse.mfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs",
    }
)  # fmt: skip

# Their own counts are those of what servers moved: no cache can have served the rest unseen.
SERVER_COUNTED = frozenset({"nfs", "nfs4"})

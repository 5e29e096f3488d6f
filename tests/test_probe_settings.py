"""Settings by allow-list: what matters is there, and no secret ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unpack import unpack

from mlps.engine.probe.settings import environment, is_secret, sysctl
from mlps.engine.probe.tree import Tree


def test_sysctl_takes_what_bears_on_io(tmp_path):
    text = (
        "= /proc/sys/vm/dirty_bytes = 0\n= /proc/sys/vm/laptop_mode = 0\n"
        "= /proc/sys/net/core/wmem_max = 212992\n= /proc/sys/net/core/somaxconn = 4096\n"
        "= /proc/sys/net/ipv4/tcp_wmem = 4096\t16384\t4194304\n"
        "= /proc/sys/kernel/io_uring_disabled = 2\n= /proc/sys/kernel/hostname = h\n"
        "= /proc/sys/sunrpc/tcp_max_slot_table_entries = 65536\n= /proc/sys/vm/dirty_ratio/\n"
    )
    tree = Tree(unpack(text, tmp_path))
    assert sysctl(tree) == {
        "kernel.io_uring_disabled": "2",
        "net.core.wmem_max": "212992",
        "net.ipv4.tcp_wmem": "4096 16384 4194304",
        "sunrpc.tcp_max_slot_table_entries": "65536",
        "vm.dirty_bytes": "0",
        "vm.dirty_ratio": "unknown",
    }
    assert list(tree.errors) == ["sysctl.vm.dirty_ratio"]


def test_without_proc_sys_the_settings_are_unknown(tmp_path):
    assert sysctl(Tree(tmp_path)) == "unknown"


def test_the_environment_is_an_allow_list(tmp_path):
    env = {
        "OMP_NUM_THREADS": "8",
        "UCX_TLS": "rc,self",
        "OMPI_MCA_btl": "^openib",
        "LD_PRELOAD": "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2",
        "AWS_ENDPOINT_URL_S3": "https://minio:9000",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_ACCESS_KEY_ID": "s",
        "HOME": "/root",
        "MY_OMP_X": "1",
    }
    tree = Tree(tmp_path)
    assert set(environment(tree, env)) == {
        "OMP_NUM_THREADS", "UCX_TLS", "OMPI_MCA_btl", "LD_PRELOAD", "AWS_ENDPOINT_URL_S3",
    }  # fmt: skip
    assert tree.errors == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("UCX_API_KEY", "1"),
        ("FI_Secret", "1"),
        ("NCCL_TOKEN", "1"),
        ("I_MPI_HYDRA_PASSWORD", "1"),
        ("MPICH_CREDENTIALS", "1"),
        ("AWS_ENDPOINT_URL", "https://me:pw@minio:9000"),
        ("AWS_ENDPOINT_URL", "https://me@minio:9000"),
        ("S3_ENDPOINT", "me:pw@minio:9000"),
        ("S3_ENDPOINT", "https://minio/?X-Amz-Security-Token=abc"),
        ("S3_ENDPOINT", "https://minio/?password=abc"),
        ("UCX_A", "AKIAIOSFODNN7EXAMPLE"),
        ("UCX_A", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        ("OMPI_MCA_x", "x=0123456789abcdef0123456789abcdef"),
        ("UCX_A", "-----BEGIN PRIVATE KEY-----"),
        ("UCX_A", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6.abc"),
    ],
)
def test_what_looks_like_a_secret_is_left_out(tmp_path, name, value):
    assert is_secret(name, value)
    assert environment(Tree(tmp_path), {name: value}) == {}


@given(st.text("abcXYZ0189_", max_size=8), st.sampled_from(["KEY", "Secret", "token", "PassWd"]))
def test_no_name_with_a_secret_word_passes(rest, word):
    assert is_secret(f"UCX_{rest}{word}{rest}", "1")


@pytest.mark.parametrize(
    "value",
    ["rc,self,sm", "mlx5_0:1,mlx5_1:1", "/opt/hpcx-v2.18-gcc-mlnx_ofed-redhat8-cuda12-x86_64/lib",
     "https://s3.eu-central-1.amazonaws.com", "0-3,8-11", "true", "10.0.0.0/24", "^openib,tcp"],
)  # fmt: skip
def test_ordinary_values_are_no_secrets(value):
    assert not is_secret("UCX_X", value)


def test_a_big_environment_stays_small_and_says_so(tmp_path):
    tree = Tree(tmp_path)
    found = environment(tree, {f"OMPI_MCA_v{index:03}": "v " * 500 for index in range(100)})
    assert sum(len(name) + len(value) for name, value in found.items()) < 2048
    assert tree.errors == {
        "environment": f"{100 - len(found)} more variables, left out to stay small"
    }

"""A tree of results as upstream's tools write it, small, with no flaw; and how to change it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from statistics import fmean, pstdev

from systems import described

SYSTEM = "sys1"
ORG = "closed/Acme"
RESULTS = f"{ORG}/results/{SYSTEM}"
TRAINING = f"{RESULTS}/training/unet3d"
CHECKPOINTING = f"{RESULTS}/checkpointing/llama3-8b"
KVCACHE = f"{RESULTS}/kv_cache/llama3.1-8b"
VECTORDB = f"{RESULTS}/vector_database/DISKANN"
KV_RUN = f"{KVCACHE}/run/20260703_100000"
IMAGE = "0123abcd"
POINTER = f"md5-tree-v2:{IMAGE}{'0' * 24}\n"
RANKS = 2

WORKLOAD = {
    "model": {"name": "unet3d", "type": "cnn"},
    "framework": "pytorch",
    "dataset": {
        "format": "npz",
        "num_files_train": 3500,
        "num_samples_per_file": 1,
        "record_length_bytes": 146600628,
        "record_length_bytes_stdev": 68341808,
    },
    "reader": {"batch_size": 7, "read_threads": 4},
    "train": {"epochs": 5, "computation_time": 0.162},
    "metric": {"au": 0.9},
}
LLAMA = {"checkpoint": {"num_checkpoints_write": 10, "num_checkpoints_read": 10, "fsync": True}}
FIRST = datetime.fromisoformat("2026-07-01T10:00:00")
RUN = timedelta(seconds=430)
RUNS = tuple(FIRST + timedelta(hours=1) + number * RUN for number in range(6))
SEPARATION = {"version": 1, "same_filesystem": False}


def stamp(moment):
    return moment.strftime("%Y%m%d_%H%M%S")


def run_path(number):
    """The directory of a run of training; number 0 warms up."""
    return f"{TRAINING}/run/{stamp(RUNS[number])}"


def metadata(model, moment, **more):
    return {
        "model": model,
        "run_datetime": stamp(moment),
        "accelerator": "b200",
        "system_info": {"total_memory_bytes": 2**36, "hosts": [{"hostname": "client1"}]},
        "verification": "CLOSED",
        **more,
    }


def logs(stem):
    return {f"{stem}.stdout.log": "done\n", f"{stem}.stderr.log": "none\n", "dlio.log": "log\n"}


def dlio(workload):
    return {
        "dlio_config/config.yaml": {"workload": workload},
        "dlio_config/overrides.yaml": ["workload=unet3d_b200"],
        "dlio_config/hydra.yaml": {"hydra": {}},
    }


def frame(moment, length_s, ranks, metric, **more):
    return {
        "start": moment.isoformat(),
        "num_accelerators": ranks,
        "num_hosts": 1,
        "hostname": "client1",
        "metric": metric,
        "host_memory_GB": [64.0],
        "end": (moment + timedelta(seconds=length_s)).isoformat(),
        **more,
    }


def below(path, files):
    return {f"{path}/{name}": content for name, content in files.items()}


def training_run(moment):
    shares = [98.1, 98.2, 98.3, 98.2, 98.1]
    rates = [share / 100 * 7 / 0.162 for share in shares]
    metric = {
        "train_au_percentage": shares,
        "train_au_mean_percentage": fmean(shares),
        "train_au_meet_expectation": "success",
        "train_au_stdev_percentage": pstdev(shares),
        "train_throughput_samples_per_second": rates,
        "train_throughput_mean_samples_per_second": fmean(rates),
        "train_throughput_stdev_samples_per_second": pstdev(rates),
        "train_io_mean_MB_per_second": fmean(rates) * 146600628 / 2**20,
    }
    epochs = {}
    for number in range(5):
        start = moment + timedelta(seconds=5 + 84 * number)
        end = start + timedelta(seconds=83.5)
        epochs[str(number + 1)] = {
            "start": start.isoformat(),
            "block1": {"start": start.isoformat(), "end": end.isoformat(), "duration": "83.50"},
            "end": end.isoformat(),
            "duration": "83.50",
        }
    return {
        **logs("training_run"),
        **dlio(WORKLOAD),
        "summary.json": frame(
            moment, 426, 1, metric, num_files_train=3500, num_samples_per_file=1, epochs=5
        ),
        "0_output.json": {"1": {}},
        "0_per_epoch_stats.json": epochs,
        f"training_{stamp(moment)}_metadata.json": metadata("unet3d", moment),
        "fs_separation.json": SEPARATION,
        ".mlps-code-image": POINTER,
    }


def training():
    sized, made = FIRST, FIRST + timedelta(minutes=5)
    files = below(
        f"{TRAINING}/datasize/{stamp(sized)}",
        {f"training_{stamp(sized)}_metadata.json": metadata("unet3d", sized, parameters=WORKLOAD)},
    )
    files |= below(
        f"{TRAINING}/datagen/{stamp(made)}", {**logs("training_datagen"), **dlio(WORKLOAD)}
    )
    for moment in RUNS:
        files |= below(f"{TRAINING}/run/{stamp(moment)}", training_run(moment))
    return files | {f"{TRAINING}/results.json": []}


def checkpointing():
    moment = datetime.fromisoformat("2026-07-02T10:00:00")
    metric = {"checkpoint_size_GB": 104.7}
    for phase in ("save", "load"):
        metric[f"{phase}_checkpoint_io_mean_GB_per_second"] = 5.235
        metric[f"{phase}_checkpoint_duration_mean_seconds"] = 20.0
    leaf = {
        **logs("checkpointing_run"),
        **dlio(LLAMA),
        "summary.json": frame(moment, 500, 8, metric, host_memory_GB=[32.0]),
        "0_output.json": {},
        "0_per_epoch_stats.json": {},
        "checkpointing_x_metadata.json": metadata(
            "llama3-8b", moment, num_processes=8, system_info={"total_memory_bytes": 2**35}
        ),
        "fs_separation.json": SEPARATION,
        ".mlps-code-image": POINTER,
    }
    files = below(f"{CHECKPOINTING}/{stamp(moment)}", leaf)
    return files | {f"{CHECKPOINTING}/results.json": []}


def rank_result(option, rank):
    return {
        "end_to_end_latencies": [0.5, 2.0],
        "seed": 42 + rank,
        "summary": {
            "elapsed_time": 300.5,
            "storage_throughput_tokens_per_sec": 100.0 * int(option),
            "avg_throughput_tokens_per_sec": 90.0,
            "cache_stats": {
                "storage_entries": 7,
                "tier_storage_read_bandwidth_gbps": 2.0,
                "tier_storage_write_bandwidth_gbps": 1.0,
                "storage_read_device_p95_ms": 5.0 + rank,
                "storage_write_device_p95_ms": 3.0,
            },
        },
    }


def rank_path(option=1, trial=0, rank=0):
    """The result of a rank of the KV cache."""
    return f"{KV_RUN}/option_{option}/trial_{trial}/rank_{rank}/kvcache_results_1.json"


def kvcache():
    options = {
        option: {
            "aggregated_read_bandwidth_gbps": 2.0 * RANKS,
            "aggregated_write_bandwidth_gbps": 1.0 * RANKS,
            "aggregated_storage_throughput_tokens_per_sec": 100.0 * int(option) * RANKS,
            "aggregated_avg_throughput_tokens_per_sec": 90.0 * RANKS,
            "aggregated_device_read_p95_ms": 5.0 + RANKS - 1,
            "aggregated_device_write_p95_ms": 3.0,
            "rank_count": RANKS,
            "trial_count": 3,
            "partial_failure": False,
            "missing_files": [],
        }
        for option in ("1", "2", "3")
    }
    files = {
        f"{KV_RUN}/summary.json": {
            "total_ranks": RANKS,
            "trials_per_option": 3,
            "options": options,
            "partial_failure": False,
        },
        f"{KV_RUN}/kv_cache_x_metadata.json": metadata(
            "llama3.1-8b",
            datetime.fromisoformat("2026-07-03T10:00:00"),
            parameters={"duration": 300},
            command_output_files=[
                {
                    "command": "kv-cache.py --model llama3.1-8b --num-users 200 --duration 300",
                    "stdout": "kvcache_opt1_trial0_x.stdout.log",
                }
            ],
        ),
        f"{KV_RUN}/fs_separation.json": SEPARATION,
        f"{KV_RUN}/.mlps-code-image": POINTER,
    }
    for option in (1, 2, 3):
        for trial in range(3):
            for rank in range(RANKS):
                files[rank_path(option, trial, rank)] = rank_result(option, rank)
    return files


def search_path(number=0):
    """The directory of a run of vector search."""
    return f"{VECTORDB}/run/20260704_11{number:02}00"


def vectordb():
    loaded = {
        "num_vectors": 1000000,
        "dimension": 1536,
        "inserted_vectors": 1000000,
        "index_type": "DISKANN",
        "database": {"database": "milvus"},
    }
    files = below(
        f"{VECTORDB}/datagen/20260704_100000",
        {
            "summary.json": loaded,
            "vector_database_x_metadata.json": metadata("x", FIRST, run_datetime=None),
        },
    )
    for number in range(5):
        searched = {
            "throughput_qps": 1000.0 + number,
            "total_time_seconds": 60.0,
            "query_count": int(60 * (1000 + number)),
            "mean_latency_ms": 1.0,
            "p95_latency_ms": 2.0,
            "p99_latency_ms": 3.0,
            "p999_latency_ms": 4.0,
        }
        statistics = {
            **{key: value for key, value in searched.items() if key != "query_count"},
            "total_queries": searched["query_count"],
            "mpi": {"expected_ranks": 2, "rank_count": 2, "missing_ranks": []},
            "disk_io": {
                "applicable": True, "duration_seconds": 60.0, "total_bytes_read": 2**33,
                "total_read_ios": 600000,
            },
        }  # fmt: skip
        files |= below(
            search_path(number),
            {
                "summary.json": {**loaded, **searched, "recall": 0.96},
                "vector_database_x_metadata.json": metadata("x", FIRST, run_datetime=None),
                "vectordb/simple/statistics.json": statistics,
                "result_verdict.json": {"flat_setup": {"ok": True, "coverage": 1.0}},
                "fs_separation.json": SEPARATION,
                ".mlps-code-image": POINTER,
            },
        )
    return files


def clean_tree():
    """The contents of all files by path: documents, or text where the name is of none."""
    solution = described("cloud", solution__submission_name=SYSTEM)
    return {
        f"{ORG}/submission.yaml": {"org": "Acme", "division": "closed"},
        f"{ORG}/systems/{SYSTEM}.yaml": solution,
        f"{ORG}/systems/{SYSTEM}.pdf": "%PDF",
        "code-images/.mlps-image-pool": "mlpstorage_version=3.0.9\n",
        f"code-images/code-{IMAGE}/.code-hash.json": {"hash": IMAGE},
        **training(),
        **checkpointing(),
        **kvcache(),
        **vectordb(),
    }


def text_of(content):
    return content if isinstance(content, str) else json.dumps(content)


def write_tree(root, files):
    """Write the files below a directory, which is given back."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text_of(content))
    return root

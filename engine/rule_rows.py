"""The rules of jobs, machines, results and archives, a row each."""

from __future__ import annotations

from collections.abc import Mapping

from .rulebook import Rule

# Rule id -> what it demands. The ids of an edition's own text stand in `covers`.
JOB_RULES: Mapping[str, Rule] = {
    "JOB-01": Rule(
        text="the workload is one that the edition scores in this division",
        phase="compose",
        covers=(
            "4.3.3",
            "EDN-02",
        ),
        limits=(
            "workloads",
            "workloads_open",
        ),
    ),
    "JOB-02": Rule(
        text="only keys that the division lets a submitter change differ from the official files",
        phase="compose",
        covers=(
            "3.6.2",
            "3.6.3",
            "4.6.3",
            "5.6.4",
            "5.6.5",
            "6.3.1.1",
            "6.3.2.1",
            "6.3.2.2",
            "6.6.1",
            "6.6.2",
        ),
    ),
    "JOB-03": Rule(
        text="all stages of the benchmark are run",
        phase="compose",
        covers=("2.1.12",),
    ),
    "JOB-04": Rule(
        text="every host has the same number of ranks (Rules 6.3.3.1 and 3.3.6)",
        phase="compose",
        covers=(
            "3.3.6",
            "6.3.3.1",
            "6.3.3.2",
        ),
    ),
    "JOB-05": Rule(
        text="the edition is one that mlps ships, as are its workloads",
        phase="compose",
        severity="warning",
        covers=("EDN-01",),
    ),
    "JOB-06": Rule(
        text="no variable that tunes object storage (S3DLIO_*) comes from the shell",
        phase="compose",
        covers=("1.2",),
    ),
    "ENV-01": Rule(
        text="the launcher's program is installed",
        phase="preflight",
    ),
    "ENV-02": Rule(
        text="the benchmark's engine starts and states what it needs",
        phase="preflight",
    ),
    "ENV-03": Rule(
        text="every rank has the memory that the engine needs",
        phase="preflight",
    ),
    "ENV-04": Rule(
        text="every host can be reached and states its facts",
        phase="preflight",
    ),
    "ENV-05": Rule(
        text="every host has the mlps that starts the job",
        phase="preflight",
    ),
    "ENV-06": Rule(
        text="every host has the Python that starts the job",
        phase="preflight",
    ),
    "ENV-07": Rule(
        text="the launcher and mpi4py on every host are of one MPI",
        phase="preflight",
    ),
    "ENV-08": Rule(
        text="programs that the benchmark starts are on PATH on every host",
        phase="preflight",
    ),
    "ENV-09": Rule(
        text="Python packages that the benchmark needs are installed on every host",
        phase="preflight",
    ),
    "ENV-10": Rule(
        text="the launcher may start ranks for this user",
        phase="preflight",
    ),
    "ENV-11": Rule(
        text="a trial launch starts every rank on its host",
        phase="preflight",
    ),
    "ENV-12": Rule(
        text="every rank may open as many files as it needs",
        phase="preflight",
    ),
    "ENV-13": Rule(
        text="the clocks of the hosts are within 1 s",
        phase="preflight",
        severity="warning",
    ),
    "ENV-14": Rule(
        text="ranks may use all cores of their hosts",
        phase="preflight",
        severity="warning",
    ),
    "ENV-15": Rule(
        text="no host removes shared memory while ranks use it",
        phase="preflight",
        severity="warning",
    ),
    "ENV-16": Rule(
        text="the hosts are alike in memory, cores, software and network",
        phase="preflight",
        severity="warning",
        covers=("3.3.7",),
    ),
    "ENV-17": Rule(
        text="the launcher has the allocation of its scheduler",
        phase="preflight",
    ),
    "PKG-03": Rule(
        text="the packages of every host are those of the job's lock file",
        phase="preflight",
    ),
    "DIR-01": Rule(
        text="data_dir is a directory that the job can write to",
        phase="preflight",
    ),
    "DIR-02": Rule(
        text="results_dir can be written to",
        phase="preflight",
    ),
    "DIR-03": Rule(
        text="data_dir and results_dir are different directories",
        phase="preflight",
        covers=(
            "3.4.1",
            "4.4.1",
            "5.4.1",
        ),
    ),
    "CAP-01": Rule(
        text="data_dir has the free space that the job needs",
        phase="preflight",
        covers=("CAP-01",),
    ),
    "CAP-02": Rule(
        text="every rank sees the same data_dir",
        phase="preflight",
        covers=(
            "CAP-02",
            "3.3.5",
            "6.3.3.4",
        ),
    ),
    "CAP-03": Rule(
        text="data_dir and results_dir are on different file systems",
        phase="preflight",
        covers=(
            "CAP-03",
            "3.4.2",
            "4.4.2",
            "5.4.2",
            "6.4.1",
        ),
    ),
    "RUN-01": Rule(
        text="every stage that was started ended as it must",
        phase="run",
    ),
    "RUN-02": Rule(
        text="nobody stopped the job before its end",
        phase="run",
    ),
    "RES-01": Rule(
        text="every measured stage moved data in its window",
        phase="run",
    ),
    "RES-02": Rule(
        text="no read differed from what was written, and reads were compared",
        phase="run",
    ),
    "RES-03": Rule(
        text="I/O went past the page cache",
        phase="run",
        severity="warning",
    ),
    "RES-04": Rule(
        text="no latency is longer than the time in which its operation ran",
        phase="run",
    ),
    "RES-05": Rule(
        text="the block device moved the bytes that the benchmark says it moved, within 2 %",
        phase="run",
        severity="warning",
    ),
    "RES-06": Rule(
        text="the measured window was steady: no drift of more than 10 % that is no chance",
        phase="run",
        severity="warning",
    ),
    "RES-07": Rule(
        text="a search found a rate that met its limit and was confirmed",
        phase="run",
    ),
    "RES-08": Rule(
        text="the rooflines before and after a measured stage agree within 10 %",
        phase="run",
        severity="warning",
    ),
    "RES-09": Rule(
        text="the storage kept up with the rate at which requests arrived",
        phase="run",
    ),
    "RES-10": Rule(
        text="what carried out the operations touched storage",
        phase="run",
        covers=("6.3.4.4",),
    ),
    "RES-11": Rule(
        text="the working set is at least 3 times the memory of the hosts",
        phase="run",
        severity="warning",
        limits=("memory_times",),
    ),
    "RES-12": Rule(
        text="the fastest core for I/O carried out the operations, with all that it uses",
        phase="run",
        severity="warning",
    ),
    "RES-13": Rule(
        text="a file system that counts moved the bytes that the benchmark says, within 2 %",
        phase="run",
        severity="warning",
    ),
    "RES-14": Rule(
        text="the network carried the bytes of a network file system, and none of a local one",
        phase="run",
        severity="warning",
    ),
    "MON-01": Rule(
        text="every host states its facts before the first stage and after the last",
        phase="run",
        severity="warning",
    ),
    "MON-02": Rule(
        text="no host, mount or limit changes while the job runs",
        phase="run",
    ),
    "MON-03": Rule(
        text="the samples of every host are whole",
        phase="run",
        severity="warning",
    ),
    "MON-04": Rule(
        text="the processors of the hosts are not what holds up a measured stage",
        phase="run",
        severity="warning",
    ),
    "TRC-01": Rule(
        text="every line of the trace was used, and in the order of time",
        phase="run",
        severity="warning",
        families=("kvcache",),
    ),
    "TRN-01": Rule(
        text="the dataset is as large as Rules 3.1.2 ask for",
        phase="run",
        families=("training",),
        covers=(
            "3.1.1",
            "3.1.2",
        ),
        limits=(
            "training.steps_per_epoch",
            "training.memory_times",
        ),
    ),
    "TRN-02": Rule(
        text="the nominal accelerator utilisation reaches what is asked for (Rules 3.3.2)",
        phase="run",
        families=("training",),
        covers=("3.3.2",),
    ),
    "TRN-03": Rule(
        text="the nominal utilisation and DLIO's agree on whether it does",
        phase="run",
        severity="warning",
        families=("training",),
    ),
    "TRN-04": Rule(
        text="no epoch was served from memory: storage moved at least 90 % of its bytes",
        phase="run",
        severity="warning",
        families=("training",),
    ),
    "TRN-05": Rule(
        text="at most 1 % of the files were in memory after they had been dropped from it",
        phase="run",
        severity="warning",
        families=("training",),
    ),
    "TRN-06": Rule(
        text="every epoch was made, with all of its steps",
        phase="run",
        families=("training",),
        covers=(
            "3.3.1 UNDERRUN",
            "3.3.1",
        ),
    ),
    "TRN-07": Rule(
        text="mlps made the dataset",
        phase="run",
        severity="info",
        families=("training",),
    ),
    "TRN-08": Rule(
        text="the epochs read the files of the dataset that was made or checked",
        phase="run",
        families=("training",),
        covers=(
            "3.3.1 OVERRUN",
            "3.3.1 DATADIR-MISMATCH",
            "3.2.1",
            "3.3.1",
        ),
    ),
    "TRN-09": Rule(
        text="the hosts have 0.5 GB of memory for each accelerator (Rules 3.3.3)",
        phase="run",
        severity="warning",
        families=("training",),
        covers=("3.3.3",),
        limits=("training.memory_of_accelerator_bytes",),
    ),
    "CKP-01": Rule(
        text="the memory of all accelerators holds a checkpoint (Rules 4.3.4)",
        phase="run",
        families=("checkpointing",),
        covers=("4.3.4",),
        limits=("checkpointing.accelerator_memory_gb",),
    ),
    "CKP-02": Rule(
        text="there are as many accelerators as a score takes (Rules 4.6.1)",
        phase="run",
        families=("checkpointing",),
        covers=(
            "4.6.1",
            "4.6.4",
        ),
    ),
    "CKP-03": Rule(
        text="every checkpoint that was planned was written and read",
        phase="run",
        families=("checkpointing",),
        covers=("4.7.1",),
    ),
    "CKP-04": Rule(
        text="checkpoints were read from storage, not from memory (Rules 4.3.1)",
        phase="run",
        families=("checkpointing",),
        covers=("4.3.1",),
        limits=("memory_times",),
    ),
    "CKP-05": Rule(
        text="the first read begins at most 30 s after the last write (Rules 4.7.1)",
        phase="run",
        families=("checkpointing",),
        covers=("4.7.1",),
        limits=("checkpointing.gap_s_most",),
    ),
    "CKP-06": Rule(
        text="a checkpoint is written once it is durable (Rules 4.3.2)",
        phase="run",
        families=("checkpointing",),
        covers=("4.3.2",),
    ),
    "CKP-07": Rule(
        text="checkpoints are whole: scale 1, and a subset only of Llama 3 8B (Rules 4.3.5)",
        phase="run",
        families=("checkpointing",),
        covers=("4.3.5",),
    ),
    "CKP-08": Rule(
        text="10 checkpoints are written, or 10 are read, or both (Rules 4.6.3)",
        phase="run",
        families=("checkpointing",),
        covers=("4.6.3",),
        limits=("checkpointing.checkpoints",),
    ),
    "CKP-09": Rule(
        text="there are more than 4 accelerators on each host (Rules 4.6.2)",
        phase="run",
        families=("checkpointing",),
        covers=("4.6.2",),
        limits=("checkpointing.ranks_per_host_over",),
    ),
    "CKP-10": Rule(
        text="nothing else goes on while checkpoints are written and read",
        phase="run",
        families=("checkpointing",),
    ),
    "VDB-01": Rule(
        text="the dataset has a scale that is scored (Rules 5.1.1)",
        phase="run",
        families=("vectordb",),
        covers=("5.1.1",),
        limits=("vectordb.scales",),
    ),
    "VDB-02": Rule(
        text="vectors and dimension are the same when loaded and when searched (Rules 5.1.2)",
        phase="run",
        families=("vectordb",),
        covers=("5.1.2",),
    ),
    "VDB-03": Rule(
        text="all vectors that are declared are stored (Rules 5.2.1)",
        phase="run",
        families=("vectordb",),
        covers=("5.2.1",),
    ),
    "VDB-04": Rule(
        text="the index that was built is the one that was searched (Rules 5.2.2)",
        phase="run",
        families=("vectordb",),
        covers=("5.2.2",),
    ),
    "VDB-05": Rule(
        text="there are 5 runs (Rules 5.3.1)",
        phase="run",
        families=("vectordb",),
        covers=("5.3.1",),
        limits=("vectordb.runs",),
    ),
    "VDB-06": Rule(
        text="recall is known, is what is asked for, and the same in all trials (Rules 5.3.2)",
        phase="run",
        families=("vectordb",),
        covers=("5.3.2",),
        limits=("vectordb.recall_least",),
    ),
    "VDB-07": Rule(
        text="a run is long enough and has enough queries (Rules 5.3.3)",
        phase="run",
        families=("vectordb",),
        covers=("5.3.3",),
        limits=(
            "vectordb.queries_least",
            "vectordb.runtime_s_least",
        ),
    ),
    "VDB-08": Rule(
        text="the truth is of these vectors and queries, and covers all of them (Rules 5.3.5)",
        phase="run",
        families=("vectordb",),
        covers=("5.3.5",),
    ),
    "VDB-09": Rule(
        text="queries read from storage, until the end of the run",
        phase="run",
        families=("vectordb",),
    ),
    "VDB-10": Rule(
        text="what keeps memory from answering is what the job says, and worked",
        phase="run",
        families=("vectordb",),
    ),
    "VDB-11": Rule(
        text="every answer holds as many ids as were asked for, of vectors, each once",
        phase="run",
        families=("vectordb",),
    ),
    "VDB-12": Rule(
        text="every request was answered in time, and no backlog grew",
        phase="run",
        families=("vectordb",),
    ),
    "VDB-13": Rule(
        text="closed searches with Milvus and DISKANN, HNSW or AISAQ (Rules 5.6.2, 5.6.3)",
        phase="run",
        families=("vectordb",),
        covers=(
            "5.6.2",
            "5.6.3",
        ),
        limits=(
            "vectordb.closed_backends",
            "vectordb.closed_indexes",
        ),
    ),
    "EXT-01": Rule(
        text="the numbers of a foreign program are named as its own",
        phase="run",
        severity="info",
        families=("external",),
    ),
    "EXT-02": Rule(
        text="no key is set that the foreign program ignores",
        phase="run",
        severity="warning",
        families=("external",),
    ),
    "EXT-03": Rule(
        text="a foreign program leaves every output that its benchmark names",
        phase="run",
        families=("external",),
    ),
    "EXT-04": Rule(
        text="every metric of a foreign program is in its outputs, as a number",
        phase="run",
        families=("external",),
    ),
    "EVD-01": Rule(
        text="every file is what was sealed, none is missing, none was added",
        phase="archive",
    ),
    "EVD-02": Rule(
        text="the plan follows from the archived job, the job from its files and overrides",
        phase="archive",
    ),
    "EVD-03": Rule(
        text="every published number follows from the archived evidence",
        phase="archive",
        covers=(
            "3.3.8",
            "4.3.6",
            "5.3.4",
            "6.3.4.1",
            "6.3.4.2",
            "6.3.4.3",
            "6.3.4.5",
        ),
    ),
    "EVD-04": Rule(
        text="the verdict follows from the archived evidence",
        phase="archive",
    ),
}

# Rules of preflight, which `preflight.skip` may name.
SKIPPABLE = tuple(rule for rule, row in JOB_RULES.items() if row.phase == "preflight")

"""The rules of edition v3.0 by the ids of its own text: what each asks for, and what judges it.

Every id stands here once. A rule that no row of the rule table covers has the reason why no tool
can judge it, or why it has no object here; where the sources of the edition contradict each other
the side taken is told with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .rule_table import RULES
from .rulebook import Family


@dataclass(frozen=True, slots=True, kw_only=True)
class EditionRule:
    """One rule of the edition's text; `family` is empty for those of all families."""

    text: str
    family: Family | str = ""
    reason: str = ""
    choice: str = ""


_NO_OBJECT = "no benchmark of mlps stores objects: there is nothing to judge"
_OUT_OF_SCOPE = "upstream's own checker declares it out of its scope; no file shows it"


def _common(text: str, reason: str = "", choice: str = "") -> EditionRule:
    return EditionRule(text=text, reason=reason, choice=choice)


def _training(text: str, reason: str = "", choice: str = "") -> EditionRule:
    return EditionRule(text=text, family="training", reason=reason, choice=choice)


def _checkpointing(text: str, reason: str = "", choice: str = "") -> EditionRule:
    return EditionRule(text=text, family="checkpointing", reason=reason, choice=choice)


def _vectordb(text: str, reason: str = "", choice: str = "") -> EditionRule:
    return EditionRule(text=text, family="vectordb", reason=reason, choice=choice)


def _kvcache(text: str, reason: str = "", choice: str = "") -> EditionRule:
    return EditionRule(text=text, family="kvcache", reason=reason, choice=choice)


COMMON: Mapping[str, EditionRule] = {
    "1.1": _common("the tool writes the whole tree, people add descriptions of systems alone"),
    "1.2": _common(
        "variables that tune object storage are declared in the job",
        choice="ranks get only the variables that the job names; what the login shell of another "
        "host adds is not seen",
    ),
    "2.1.1": _common("one directory for each submitter, named in plain letters"),
    "2.1.2": _common(
        "at the top there are divisions and code images",
        choice="code images are written to code-images/; pools of submitters are read as well",
    ),
    "2.1.3": _common("the open division has the form of the closed one"),
    "2.1.4": _common("a closed division holds submitters"),
    "2.1.5a": _common("a submitter has results and systems"),
    "2.1.5b": _common(
        "a submitter has nothing else but submission.yaml",
        choice="a directory code/ of older rounds is no longer asked for and is remarked upon",
    ),
    "2.1.6": _common("the code that ran is in the tree, with its hashes"),
    "2.1.7": _common("each system has a description and a picture of one name"),
    "2.1.8": _common("results and descriptions name the same systems"),
    "2.1.9": _common("all runs of a system are on the same hardware and software"),
    "2.1.10": _common(
        "results are in directories of the families",
        choice="the text names two families, its checker four: four are read",
    ),
    "2.1.11": _common("training has the models of the edition"),
    "2.1.12": _common("training has sizing, making and running of its dataset"),
    "2.1.13": _common("a dataset was made once"),
    "2.1.14": _common("what made it is in a directory named for its time"),
    "2.1.15": _common(
        "that directory holds logs and configuration",
        choice="its JSON files are listed in one source and denied in another: they are optional",
    ),
    "2.1.16": _common("the runs of a workload have one results.json"),
    "2.1.17": _common(
        "training has 6 runs, of which the first warms up",
        choice="exactly 6, as the text says; one checker of upstream's takes 5 and more",
    ),
    "2.1.18": _common("between two runs passes less time than a run takes"),
    "2.1.18a": _common("6 runs in a row may be cut out of many"),
    "2.1.19": _common("the directory of a run holds its logs and results"),
    "2.1.20": _common("the directory of a run holds its configuration"),
    "2.1.21": _common("checkpointing has the models of the edition"),
    "2.1.22": _common("checkpointing has its results.json and 1 or 2 runs"),
    "2.1.23": _common("two runs of checkpointing are one of writes and one of reads"),
    "2.1.24": _common("between two runs of checkpointing passes less time than one takes"),
    "2.1.25": _common("the directory of a checkpointing run holds its logs and results"),
    "2.1.26": _common("the directory of a checkpointing run holds its configuration"),
    "2.1.27": _common("vector search has directories of its indexes"),
    "2.29": _common(
        "logs of the tool may be handed in", "it allows something and asks for nothing"
    ),
    "EDN-01": _common("the edition is a known one"),
    "EDN-02": _common("a closed run is of a workload that has a class"),
    "EDN-03": _common(
        "training ran with an accepted version of DLIO",
        "mlps trains with an engine of its own; the list of accepted versions is not published",
    ),
    "CAP-01": _common("there is room for what will be written"),
    "CAP-02": _common(
        "all hosts see the same directory",
        choice="compared by content: device numbers differ between clients of some file systems",
    ),
    "CAP-03": _common("data and results are on different file systems"),
    "LEAF-01": _common("a run has one file of metadata"),
    "RPT-01": _common("the table of all results is the union of those of workloads"),
    "PROV-01": _common("a run tells of what it was made"),
    "PROV-02": _common("a submission lists all that it holds"),
    "CHECK-01": _common("pointers to code images lead to one"),
    "CHECK-02": _common("a code image is what its name and hashes say"),
    "CHECK-03": _common("no code image is without a run"),
    "CHECK-04": _common("code is in code images alone"),
}

TRAINING: Mapping[str, EditionRule] = {
    "3.1.1": _training("the dataset was sized before it was made"),
    "3.1.2": _training(
        "the dataset is 5 times the memory of the clients and 500 steps an epoch, or more",
        choice="a minimum, and the larger of declared and measured memory counts",
    ),
    "3.2.1": _training("as many files were made as were asked for"),
    "3.3.1": _training(
        "a run uses the dataset that was sized, and what was made holds it",
        choice="exactly the sized number of files, as the text says",
    ),
    "3.3.1 OVERRUN": _training("no run has more files than were made"),
    "3.3.1 UNDERRUN": _training("no run has fewer files than were sized"),
    "3.3.1 DATADIR-MISMATCH": _training("sizing, making and running are of one directory"),
    "3.3.1 DATASIZE-REUSED": _training(
        "a sizing is of one dataset",
        "the name of the code is all that is known of it; 3.3.1 compares every run with a sizing",
    ),
    "3.3.1 DATASIZE-MISSING": _training("a run has a sizing"),
    "3.3.1 DATAGEN-MISSING": _training("a run has what made its dataset"),
    "3.3.1 DATASIZE-MALFORMED": _training("a sizing has its numbers"),
    "3.3.1 EVAL-FIELD-MISSING": _training(
        "a sizing tells of files for evaluation",
        "no training workload of the edition evaluates",
    ),
    "3.3.2": _training(
        "accelerators are used as much as the workload asks for",
        choice="0.85 for retinanet, as its file says; a document says 0.90",
    ),
    "3.3.3": _training(
        "a client has 0.5 GB of memory for each accelerator",
        choice="the demand is that; upstream's check of few accelerators is not it",
    ),
    "3.3.4": _training("a system for one host is run on one client"),
    "3.3.5": _training("all clients reach the data"),
    "3.3.6": _training("every host has as many accelerators"),
    "3.3.7": _training("hosts are alike in memory, cores and software"),
    "3.3.8": _training("the figure is the mean of 5 runs"),
    "3.4.1": _training("data and results have directories of their own"),
    "3.4.2": _training("data and results are on different file systems"),
    "3.6.1": _training(
        "the code that ran is the code that is handed in",
        choice="compared with its own hashes; no reference digest of the round is published",
    ),
    "3.6.2": _training(
        "closed changes only the keys of its list",
        choice="the union of both lists of upstream's: prefetching and the checkpoint directory",
    ),
    "3.6.3": _training("open changes only the keys of its list"),
}

CHECKPOINTING: Mapping[str, EditionRule] = {
    "4.3.1": _checkpointing("what is read does not come from the memory of the clients"),
    "4.3.2": _checkpointing("every write is made durable"),
    "4.3.3": _checkpointing("the model is one of four"),
    "4.3.4": _checkpointing(
        "the memory of the accelerators holds a checkpoint",
        choice="the memory of Table 3, in GB; one version of the checker took 80 GiB for all",
    ),
    "4.3.5": _checkpointing(
        "only Llama 3 8B runs as a subset, with 8 accelerators",
        choice="the published text lacks the word not (issue 841)",
    ),
    "4.3.6": _checkpointing("the figure is the mean of writes, and of reads"),
    "4.4.1": _checkpointing("checkpoints and results have directories of their own"),
    "4.4.2": _checkpointing("checkpoints and results are on different file systems"),
    "4.6.1": _checkpointing("closed runs 8, 64, 512 or 1,024 accelerators by model"),
    "4.6.2": _checkpointing(
        "there are more than 4 accelerators on a host",
        choice="fewer than 4 is an error, 4 a warning: rule and table disagree (issue 842)",
    ),
    "4.6.3": _checkpointing("closed changes only the directory and writes 10, reads 10, or both"),
    "4.6.4": _checkpointing("open runs a multiple of the model's parallelism"),
    "4.7.1": _checkpointing(
        "10 writes, then 10 reads, at most 30 s later",
        choice="30 s hold: both are stages of one job, so that no scheduler stands between them",
    ),
    "4.7.2": _checkpointing(
        "the whole time counts from first write to last read",
        "it defines a time and asks for nothing; the stamps of every checkpoint are archived",
    ),
    "4.7.3": _checkpointing("the time to remap is in the description of the system"),
    "4.7.4": _checkpointing("the description tells of several hosts, and of reading and writing"),
}

VECTORDB: Mapping[str, EditionRule] = {
    "5.1.1": _vectordb(
        "the dataset has a scale of the edition",
        choice="upstream has no table; that of mlps is marked provisional",
    ),
    "5.1.2": _vectordb("vectors have one dimension when loaded and when searched"),
    "5.2.1": _vectordb("all vectors that are declared are stored"),
    "5.2.2": _vectordb("the index that is declared was built"),
    "5.3.1": _vectordb("there are 5 runs"),
    "5.3.2": _vectordb(
        "recall is there and reaches its target",
        choice="upstream has no table; that of mlps is marked provisional",
    ),
    "5.3.3": _vectordb(
        "there are as many queries as the edition asks for",
        choice="upstream has no table; that of mlps is marked provisional",
    ),
    "5.3.4": _vectordb("rate and latencies are there"),
    "5.3.5": _vectordb("the truth is complete"),
    "5.4.1": _vectordb("the place of the data is told, and is not that of the results"),
    "5.4.2": _vectordb("data and results are on different file systems"),
    "5.5.1": _vectordb("the object store is named", _NO_OBJECT),
    "5.6.1": _vectordb("the code that ran is the code that is handed in"),
    "5.6.2": _vectordb("closed searches with Milvus"),
    "5.6.3": _vectordb("closed searches with DISKANN, HNSW or AISAQ"),
    "5.6.4": _vectordb(
        "closed changes only the keys of its list",
        choice="degree and M are 64, as the table of the rules says; a manual says 16",
    ),
    "5.6.5": _vectordb("open changes only the keys of its list"),
}

KVCACHE: Mapping[str, EditionRule] = {
    "6.3.1.1": _kvcache(
        "three Options, each as it is fixed",
        choice="the rules hold; a manual names other memory, duration and generation",
    ),
    "6.3.2.1": _kvcache("seed 42, 3 trials, 90 s between Options, no configuration of one's own"),
    "6.3.2.2": _kvcache("nothing scales by itself"),
    "6.3.3.1": _kvcache("a client is an MPI rank, and load grows with ranks"),
    "6.3.3.2": _kvcache("ranks are spread evenly over hosts"),
    "6.3.3.3": _kvcache("every rank leaves its result"),
    "6.3.3.4": _kvcache("all hosts see the directory at the same path"),
    "6.3.4.1": _kvcache("bandwidth is the mean over trials of the sum over ranks"),
    "6.3.4.2": _kvcache("so are tokens per second"),
    "6.3.4.3": _kvcache(
        "latency is that of the worst client",
        choice="both names of it are written: that of the rules and that of published files",
    ),
    "6.3.4.4": _kvcache("an Option that touched no storage fails"),
    "6.3.4.5": _kvcache("the headline has bandwidth, latencies, tokens and ranks"),
    "6.4.1": _kvcache("cache and results are on different file systems"),
    "6.4.2": _kvcache("objects are saved and loaded as the rules say", _OUT_OF_SCOPE),
    "6.5.x": _kvcache("object storage is reached through a gateway", _NO_OBJECT),
    "6.6.1": _kvcache("closed changes only the keys of its list"),
    "6.6.2": _kvcache("open changes only the keys of its list"),
    "6.6.3": _kvcache("how open results are described", _OUT_OF_SCOPE),
}

# The fields of a description against each other, in the order of the edition's schema.
_FIELDS = (
    "on premises a product node has rack units",
    "on premises a product node has power supplies",
    "on premises a client has rack units",
    "on premises a client has power supplies",
    "on premises the sum of rack units is given",
    "on premises a switch has rack units and power supplies",
    "a cloud has no switches",
    "a cloud has no power supplies of racks",
    "a cloud has no rack units",
    "a cloud has no power supplies",
    "the sum of rack units is that of product nodes and switches",
    "no more power supplies must be active than there are",
    "the time to remap is 0 exactly where hosts read and write at the same time",
    "footprint and installation on clients are both n/a, or neither is",
    "product nodes of remote storage have a network",
    "clients of remote storage have a network",
    "local storage has no switches",
)
SYSTEM: Mapping[str, EditionRule] = {
    f"9.2/{number}": _common(text) for number, text in enumerate(_FIELDS, 1)
}

EDITION_RULES: Mapping[str, EditionRule] = {
    **COMMON, **TRAINING, **CHECKPOINTING, **VECTORDB, **KVCACHE, **SYSTEM,
}  # fmt: skip


def judged_by(rule: str) -> tuple[str, ...]:
    """The rows of the rule table that judge a rule of the edition, by its id."""
    return tuple(name for name, row in RULES.items() if rule in row.covers)

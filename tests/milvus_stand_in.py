"""A stand-in for a Milvus server: it speaks the protocol of pymilvus, and searches exactly.

It keeps what it was told (`indexes`, `searches`), indexes in steps, so that a client must wait, and
forgets nothing of a search's parameters. What it cannot do fails as an unknown call does.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
import numpy as np
from pymilvus.grpc_gen import common_pb2, milvus_pb2, milvus_pb2_grpc, schema_pb2

FOUND = common_pb2.Status()
MISSING = common_pb2.Status(error_code=common_pb2.CollectionNotExists, code=100, reason="not found")


@dataclass
class Collection:
    """What a server keeps of one."""

    schema: schema_pb2.CollectionSchema
    shards: int
    ids: list = field(default_factory=list)
    vectors: list = field(default_factory=list)
    flushed: bool = False
    index: dict | None = None
    asked: int = 0
    loaded: bool = False


def pairs(found):
    return {each.key: each.value for each in found}


class StandIn(milvus_pb2_grpc.MilvusServiceServicer):
    """The calls that the adapter makes."""

    def __init__(self):
        self.collections, self.searches, self.compactions = {}, [], []
        self.stalls = False

    def Connect(self, request, context):
        return milvus_pb2.ConnectResponse(status=FOUND, identifier=1)

    def AllocTimestamp(self, request, context):
        return milvus_pb2.AllocTimestampResponse(status=FOUND, timestamp=1)

    def HasCollection(self, request, context):
        there = request.collection_name in self.collections
        return milvus_pb2.BoolResponse(status=FOUND, value=there)

    def CreateCollection(self, request, context):
        schema = schema_pb2.CollectionSchema.FromString(request.schema)
        self.collections[request.collection_name] = Collection(schema, request.shards_num)
        return FOUND

    def DescribeCollection(self, request, context):
        found = self.collections.get(request.collection_name)
        if found is None:
            return milvus_pb2.DescribeCollectionResponse(status=MISSING)
        return milvus_pb2.DescribeCollectionResponse(
            status=FOUND, schema=found.schema, shards_num=found.shards, collectionID=7
        )

    def DropCollection(self, request, context):
        del self.collections[request.collection_name]
        return FOUND

    def Insert(self, request, context):
        found = self.collections[request.collection_name]
        fields = {each.field_name: each for each in request.fields_data}
        ids = list(fields["id"].scalars.long_data.data)
        data = np.array(fields["vector"].vectors.float_vector.data, np.float32)
        found.ids += ids
        found.vectors += list(data.reshape(len(ids), -1))
        return milvus_pb2.MutationResult(
            status=FOUND, insert_cnt=len(ids),
            IDs=schema_pb2.IDs(int_id=schema_pb2.LongArray(data=ids)),
        )  # fmt: skip

    def Flush(self, request, context):
        for name in request.collection_names:
            self.collections[name].flushed = True
        return milvus_pb2.FlushResponse(
            status=FOUND,
            coll_segIDs={name: schema_pb2.LongArray(data=[1]) for name in request.collection_names},
            coll_flush_ts={name: 1 for name in request.collection_names},
        )

    def GetFlushState(self, request, context):
        return milvus_pb2.GetFlushStateResponse(status=FOUND, flushed=True)

    def GetCollectionStatistics(self, request, context):
        found = self.collections[request.collection_name]
        rows = str(len(found.ids) if found.flushed else 0)
        return milvus_pb2.GetCollectionStatisticsResponse(
            status=FOUND, stats=[common_pb2.KeyValuePair(key="row_count", value=rows)]
        )

    def CreateIndex(self, request, context):
        words = pairs(request.extra_params)
        found = self.collections[request.collection_name]
        found.index = {
            "name": request.index_name,
            "index_type": words.pop("index_type"),
            "metric_type": words.pop("metric_type"),
            "params": words,
        }
        return FOUND

    def DescribeIndex(self, request, context):
        """Half of the rows at first, and then all: the state alone says Finished from the start."""
        found = self.collections[request.collection_name]
        if found.index is None:
            missing = common_pb2.Status(error_code=common_pb2.IndexNotExist, code=700, reason="no")
            return milvus_pb2.DescribeIndexResponse(status=missing)
        found.asked += 1
        rows = len(found.ids)
        done = rows // 2 if self.stalls or found.asked < 3 else rows
        index = milvus_pb2.IndexDescription(
            index_name=found.index["name"], field_name="vector", total_rows=rows,
            indexed_rows=done, pending_index_rows=rows - done, state=common_pb2.Finished,
        )  # fmt: skip
        return milvus_pb2.DescribeIndexResponse(status=FOUND, index_descriptions=[index])

    def LoadCollection(self, request, context):
        self.collections[request.collection_name].loaded = True
        return FOUND

    def GetLoadingProgress(self, request, context):
        return milvus_pb2.GetLoadingProgressResponse(status=FOUND, progress=100)

    def Query(self, request, context):
        assert list(request.output_fields) == ["count(*)"]
        found = self.collections[request.collection_name]
        assert found.loaded
        rows = schema_pb2.LongArray(data=[len(found.ids)])
        count = schema_pb2.FieldData(
            type=schema_pb2.Int64, field_name="count(*)",
            scalars=schema_pb2.ScalarField(long_data=rows),
        )  # fmt: skip
        return milvus_pb2.QueryResults(status=FOUND, fields_data=[count])

    def ManualCompaction(self, request, context):
        self.compactions.append(request.collection_name)
        return milvus_pb2.ManualCompactionResponse(status=FOUND, compactionID=5)

    def GetCompactionState(self, request, context):
        return milvus_pb2.GetCompactionStateResponse(status=FOUND, state=common_pb2.Completed)

    def Search(self, request, context):
        words = pairs(request.search_params)
        self.searches.append({**words, "params": json.loads(words["params"])})
        found = self.collections[request.collection_name]
        assert found.loaded
        queries = common_pb2.PlaceholderGroup.FromString(request.placeholder_group).placeholders[0]
        rows = [np.frombuffer(each, np.float32) for each in queries.values]
        hits = [nearest(row, found, int(words["topk"])) for row in rows]
        ids = [number for row in hits for number, _ in row]
        results = schema_pb2.SearchResultData(
            num_queries=len(rows), top_k=int(words["topk"]), topks=[len(row) for row in hits],
            ids=schema_pb2.IDs(int_id=schema_pb2.LongArray(data=ids)),
            scores=[score for row in hits for _, score in row], primary_field_name="id",
        )  # fmt: skip
        return milvus_pb2.SearchResults(status=FOUND, results=results)


def nearest(query, found, k):
    """As Milvus tells it: squared distances for L2, the nearest first in any metric."""
    vectors, metric = np.array(found.vectors, np.float64), found.index["metric_type"]
    if metric == "L2":
        told = ((vectors - query) ** 2).sum(axis=1)
        order = np.argsort(told, kind="stable")[:k]
    else:
        told = vectors @ query.astype(np.float64)
        if metric == "COSINE":
            told /= np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
        order = np.argsort(-told, kind="stable")[:k]
    return [(found.ids[each], float(told[each])) for each in order]


def started():
    """A stand-in that listens on a free port of this machine: itself, its server and the port."""
    stand_in = StandIn()
    server = grpc.server(ThreadPoolExecutor(4))
    milvus_pb2_grpc.add_MilvusServiceServicer_to_server(stand_in, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return stand_in, server, port

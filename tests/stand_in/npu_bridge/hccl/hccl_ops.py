"""Collective operations that record that they were asked for; every worker keeps its own values."""

import os

from common.tf_stack import tf

from npu_bridge.record import note


def allreduce(tensor, reduction, fusion=1, fusion_id=-1, group="hccl_world_group"):
    assert reduction in ("sum", "max", "min", "prod"), reduction
    note("allreduce", [reduction])
    return tf.identity(tensor) * float(os.environ.get("CM_WORKER_SIZE") or os.environ["RANK_SIZE"])


def broadcast(tensor, root_rank, fusion=2, fusion_id=0, group="hccl_world_group"):
    assert isinstance(tensor, list)
    note("broadcast", [len(tensor), root_rank])
    return [tf.identity(each) for each in tensor]

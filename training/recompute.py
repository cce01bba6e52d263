"""Less memory in training: what is cheap is computed once more for the gradients, not kept.

The gradients of a layer need its input, concatenated, and the same after batch normalisation and
ReLU: nearly all that training keeps, and quickly computed from the outputs of convolutions. This
is the memory-efficient DenseNet of Pleiss et al. 2017, arXiv 1707.06990, as a change of the graph:
once the gradients are built, those of their operations that read such a tensor read a copy of it,
which is computed when they are about to run. The forward pass is left alone: the names of its
operations and variables, and the updates of the moving averages, one a step.
"""

from typing import Any, Dict, Iterator, List, Tuple

from common.tf_stack import tf

from tensorpack.tfutils.optimizer import ProxyOptimizer

# Types of operations whose outputs are not kept.
CHEAP = ("ConcatV2", "StridedSlice", "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3",
         "Relu")  # fmt: skip
SCOPE = "recompute"

Tensor = Any  # tf.Tensor; TensorFlow has no type hints
Operation = Any


class RecomputingOptimizer(ProxyOptimizer):
    """An optimizer whose gradients keep no output of a CHEAP operation."""

    def compute_gradients(self, *arguments, **options):
        """Return what the optimizer does, once the operations of the gradients read copies."""
        graph = tf.get_default_graph()
        before = set(graph.get_operations())
        gradients = super().compute_gradients(*arguments, **options)
        with tf.name_scope(SCOPE):
            Copies(graph, [each for each in graph.get_operations() if each not in before]).apply()
        return gradients


class Copies:
    """Copies of cheap operations for the gradients that were built just now.

    backward: the operations of the gradients, in the order in which they were made, which is that
              from the loss to the images
    """

    def __init__(self, graph: Any, backward: List[Operation]):
        self._graph = graph
        self._order = {op: index for index, op in enumerate(backward)}
        # Cheap operation -> the gradient whose arrival its copy waits for: otherwise it would be
        # computed in the forward pass.
        self._triggers: Dict[Operation, Tensor] = {}
        self._copies: Dict[Operation, Operation] = {}

    def apply(self) -> None:
        """Have the gradients read copies."""
        reads = list(self._reads())
        for reader, index in reads:
            incoming = [each for each in reader.inputs if self._is_gradient(each)]
            self._need(reader.inputs[index].op, min(incoming, key=self._place))
        for reader, index in reads:
            reader._update_input(index, self._copy(reader.inputs[index].op).outputs[0])

    def _reads(self) -> Iterator[Tuple[Operation, int]]:
        """Yield the operations of the gradients that read what is cheap, and which input that is.

        What waits for no gradient, such as the shape of a tensor, runs in the forward pass.
        """
        for op in self._order:
            if any(map(self._is_gradient, op.inputs)):
                for index, tensor in enumerate(op.inputs):
                    if tensor.op not in self._order and is_cheap(tensor):
                        yield op, index

    def _is_gradient(self, tensor: Tensor) -> bool:
        return tensor.op in self._order and tensor.dtype.is_floating

    def _place(self, gradient: Tensor) -> int:
        return self._order[gradient.op]

    def _need(self, op: Operation, gradient: Tensor) -> None:
        """Note that an operation is needed, with all before it, once a gradient has arrived."""
        known = self._triggers.get(op)
        if known is not None and self._place(known) <= self._place(gradient):
            return
        self._triggers[op] = gradient
        for tensor in filter(is_cheap, op.inputs):
            self._need(tensor.op, gradient)

    def _copy(self, op: Operation) -> Operation:
        """Return the copy of an operation; what is not cheap is read where it is."""
        if op not in self._copies:
            inputs = [self._copy(t.op).outputs[0] if is_cheap(t) else t for t in op.inputs]
            attributes = {k: v for k, v in op.node_def.attr.items() if k != "_class"}
            with tf.control_dependencies([self._triggers[op]]), tf.device(op.device or None):
                self._copies[op] = self._graph.create_op(
                    op.type, inputs, [each.dtype for each in op.outputs], name=op.name,
                    attrs=attributes, op_def=op.op_def,
                )  # fmt: skip
        return self._copies[op]


def is_cheap(tensor: Tensor) -> bool:
    """Return whether a tensor is the result of a cheap operation, or of an identity behind one."""
    op = tensor.op
    if op.type == "Identity":
        return is_cheap(op.inputs[0])
    return op.type in CHEAP and tensor.dtype.is_floating and tensor is op.outputs[0]

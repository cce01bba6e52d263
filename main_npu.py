"""Train a SparseNet on Ascend NPUs: TensorFlow 1.15 with Huawei's npu_bridge.

python3 ./main_npu.py --dataset c10 --dataset_dir DIR --fetch sparse --depth 100 --growth_rate 24 \
    --batch_size 64 --drop_1 150 --drop_2 225 --max_epoch 300
"""

import common.supported_python  # noqa: F401, I001  (first: it refuses a Python that can't go on)
import sys

from platforms.npu_options import parse
from sparsenet.errors import exit_code_of


def main():
    settings, asked = parse(sys.argv[1:])
    if settings is None:
        return
    from platforms import npu  # TensorFlow takes seconds to start: mistakes come before

    if asked.dry_run:
        _, count = npu.rank_and_count()
        options = npu.with_workers(asked.options, count)
        print("# memory_optimization is RewriterConfig.OFF, which its enumeration calls MANUAL")
        print(npu.npu_session_config(options), end="")
        return
    from training.run import run

    run(settings, lambda _: npu.platform(asked))


if __name__ == "__main__":
    sys.exit(exit_code_of(main))

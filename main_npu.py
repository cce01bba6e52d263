"""Train a SparseNet on Ascend NPUs: TensorFlow 1.15 with Huawei's npu_bridge.

python3 ./main_npu.py --dataset c10 --dataset_dir DIR --fetch sparse --depth 100 --growth_rate 24 \
    --batch_size 64 --drop_1 150 --drop_2 225 --max_epoch 300
"""

import supported_python  # noqa: F401, I001  (first: it refuses a Python that can't go on)
import sys

from errors import exit_code_of
from npu_options import parse


def main():
    settings, npu = parse(sys.argv[1:])
    if settings is None:
        return
    import npu_platform  # TensorFlow takes seconds to start: mistakes in the command come before

    if npu.dry_run:
        _, count = npu_platform.rank_and_count()
        options = npu_platform.with_workers(npu.options, count)
        print("# memory_optimization is RewriterConfig.OFF, which its enumeration calls MANUAL")
        print(npu_platform.session_config(options), end="")
        return
    import train

    train.run(settings, lambda _: npu_platform.platform(npu))


if __name__ == "__main__":
    sys.exit(exit_code_of(main))

"""Train a SparseNet on Ascend NPUs: TensorFlow 1.15 with Huawei's npu_bridge.

python3 ./main_npu.py --dataset c10 --dataset_dir DIR --fetch sparse --depth 100 --growth_rate 24 \
    --batch_size 64 --drop_1 150 --drop_2 225 --max_epoch 300
"""

import common.supported_python  # noqa: F401, I001  (first: it refuses an unsupported Python)
import sys

from sparsenet.errors import exit_code_of
from training.command_line import parse_npu


def main():
    parsed = parse_npu(sys.argv[1:])
    if parsed is None:
        return
    settings, npu_settings = parsed
    from platforms import npu  # TensorFlow takes seconds to start; mistakes are reported before

    if npu_settings.dry_run:
        print(npu.dry_run(npu_settings))
        return
    from training.run import train

    train(settings, lambda _: npu.platform(npu_settings))


if __name__ == "__main__":
    sys.exit(exit_code_of(main))

"""Train a SparseNet on Ascend NPUs: TensorFlow 1.15 with Huawei's npu_bridge.

python3 ./main_npu.py --dataset c10 --dataset_dir DIR --fetch sparse --depth 100 --growth_rate 24 \
    --batch_size 64 --drop_1 150 --drop_2 225 --max_epoch 300
"""

import common.supported_python  # noqa: F401, I001  (first: it refuses an unsupported Python)
import sys

from platforms.npu_ranks import rank_and_world_size
from sparsenet.errors import exit_code_of
from training.command_line import parse_npu


def main():
    parsed = parse_npu(sys.argv[1:])
    if parsed is None:
        return
    settings, npu_settings = parsed
    if npu_settings.dry_run:
        from platforms import npu

        print(npu.dry_run(npu_settings))
        return
    from training.start import start  # it takes longer than --help may

    def platform():
        from platforms import npu  # TensorFlow takes seconds to start; mistakes come before

        return npu.platform(npu_settings)

    start(settings, platform, is_alone=rank_and_world_size()[1] == 1)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))

"""Train a SparseNet on the GPUs of one machine, or on its CPU where there is none.

python ./main_gpu.py --dataset c10 --dataset_dir DIR --fetch sparse --depth 100 --growth_rate 24 \
    --batch_size 64 --drop_1 150 --drop_2 225 --max_epoch 300
"""

import common.supported_python  # noqa: F401, I001  (first: it refuses an unsupported Python)
import sys

from platforms.precision import before_tensorflow
from platforms.workers import started_together
from sparsenet.errors import exit_code_of
from training.command_line import parse


def main():
    settings = parse(sys.argv[1:])
    if settings is None:
        return
    from training.start import start  # it takes longer than --help may

    def platform():
        before_tensorflow(settings.precision)
        from platforms import gpu  # TensorFlow takes seconds to start; mistakes come before

        return gpu.platform(settings)

    start(settings, platform, is_alone=started_together() is None)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))

"""What a run computes on: GPUs or a CPU (gpu.py), Ascend NPUs (npu.py), one or several processes.

Each launcher chooses a platform, which fills in a :class:`platforms.platform.Platform`; training
knows nothing else about it.
"""

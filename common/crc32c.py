"""The checksum CRC-32C, by which TensorFlow's files show damage, computed with numpy."""

import functools
from typing import List

import numpy as np

POLYNOMIAL = 0x82F63B78  # of Castagnoli, with its bits reversed
LANE = 512  # bytes: lanes of this length are summed up side by side
AT_ONCE = 1 << 24  # bytes, so that the memory taken is bounded


def crc32c(content, start: int = 0) -> int:
    """Return the checksum of bytes, or of `start`'s bytes followed by these."""
    data = np.frombuffer(content, np.uint8)
    crc = start ^ 0xFFFFFFFF
    for begin in range(0, len(data), AT_ONCE):
        crc = _extended(crc, data[begin : begin + AT_ONCE])
    return crc ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """Return a checksum as TensorFlow and LevelDB store it, next to the data that it is of."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _extended(crc: int, data: np.ndarray) -> int:
    """Return the register after some bytes [N].

    The register is linear in its start and in the bytes: each lane is run from 0, and the register
    before it, run on over a lane of zeros, is added.
    """
    lanes = len(data) // LANE
    columns = np.ascontiguousarray(data[: lanes * LANE].reshape(lanes, LANE).T)
    over_lane = _over_lane()
    for lane in _run(np.zeros(lanes, np.uint32), columns).tolist():
        for place in range(4):
            lane ^= over_lane[place][crc >> 8 * place & 0xFF]
        crc = lane
    table = _tables()[0]
    for byte in data[lanes * LANE :].tolist():
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc


def _run(registers: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return registers [M] after each has read its bytes, columns [LANE, M]."""
    table = _tables()[1]
    for column in columns:
        registers = table[(registers ^ column) & 0xFF] ^ (registers >> np.uint32(8))
    return registers


@functools.lru_cache(maxsize=None)
def _tables():
    """Return what each of the 256 bytes makes of an empty register: as a list, and as an array."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> np.uint32(1)) ^ np.where(table & 1, np.uint32(POLYNOMIAL), np.uint32(0))
    return table.tolist(), table


@functools.lru_cache(maxsize=None)
def _over_lane() -> List[List[int]]:
    """Return what a lane of zeros makes of each value of each of a register's four bytes."""
    registers = (np.arange(256) << 8 * np.arange(4)[:, None]).astype(np.uint32).ravel()
    zeros = np.zeros((LANE, 1), np.uint8)
    return _run(registers, zeros).reshape(4, 256).tolist()

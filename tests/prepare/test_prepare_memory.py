"""Memory: prepare holds one shard of pixels and, of the other rows, hardly more than the table."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from folder_release import write_many

PREPARE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from folder_release import Folder
from radlearn.prepare import prepare
prepare(Folder(), Path(sys.argv[2]), Path(sys.argv[3]), size=64)
# Not `ru_maxrss`, which a process inherits from the one that started it.
print(next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line))
"""


@pytest.mark.slow
def test_peak_memory_hardly_grows_with_the_number_of_images(tmp_path):
    peaks = {}
    for count in (2_000, 8_000):
        root = tmp_path / str(count)
        write_many(root, count)
        command = [sys.executable, "-c", PREPARE, str(Path(__file__).parent), str(root), f"{root}-prepared"]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        peaks[count] = int(output.split()[1]) / 1024  # MiB
    print(f"peak of prepare in MiB: {peaks}")
    # 4 KiB a row would be 1.5 GB for the 377,000 images of MIMIC-CXR; the pixels of one are 4 KiB here.
    assert peaks[8_000] - peaks[2_000] < 6_000 * 4 / 1024

from __future__ import annotations

import subprocess
import sys

LOOK = """
import gc, os, resource
from proxy.service import process
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(64, hard), hard))
process.prepare()
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
assert os.umask(0) == 0o077
assert gc.get_threshold()[0] > 10_000
assert gc.get_freeze_count()
print("well prepared")
"""


def test_descriptors_files_and_garbage() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOOK], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.stdout == "well prepared\n", done.stderr

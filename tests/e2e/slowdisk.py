# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""A disk that takes only so much: the kernel's block throttle, by control group (version 1 or 2), for one
process and what it starts."""
import itertools
import os
import pathlib
import time

_serial = itertools.count()
_ROOT = pathlib.Path("/sys/fs/cgroup")


class SlowDisk:
    """Whoever calls join() writes at most rate bytes a second to the disk that path is on."""

    def __init__(self, path, rate):
        device = os.stat(path).st_dev
        number = f"{os.major(device)}:{os.minor(device)}"
        name = f"sluice-test-{os.getpid()}-{next(_serial)}"
        if (_ROOT / "blkio").is_dir():
            self.group, file, limit = _ROOT / "blkio" / name, "blkio.throttle.write_bps_device", rate
        else:
            self.group, file, limit = _ROOT / name, "io.max", f"wbps={rate}"
        self.group.mkdir()
        try:
            (self.group / file).write_text(f"{number} {limit}", encoding="ascii")
        except OSError:
            self.group.rmdir()
            raise

    def join(self):
        (self.group / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")

    def close(self):
        """The processes may take a moment to be gone."""
        for _ in range(100):
            try:
                self.group.rmdir()
                return
            except OSError:
                time.sleep(0.05)
        self.group.rmdir()

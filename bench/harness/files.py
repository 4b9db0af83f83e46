"""What the machines run: the kernel, the guest program and the archives that carry it."""

import os
import shutil
import subprocess

from harness.cpio import Archive

# What the guest compiles: a small C project.
PROJECT = ("suite.h", "main.c", "script.c", "floating.c", "memory.c", "system.c", "processes.c", "jit.c")

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Files:
    """Paths of a build."""

    def __init__(self, build):
        cache = subprocess.run([os.path.join(HERE, "../guest/fetch"), "--where"], capture_output=True, text=True, check=True)
        self.suite = os.path.join(build, "bench_suite")
        self.kernel = os.path.join(build, "guest/kernels/cloud")
        self.base_initramfs = os.path.join(build, "guest/initramfs-amd64")
        self.busybox = os.path.join(cache.stdout.strip(), "busybox-amd64")
        self.userland = os.path.join(os.path.dirname(cache.stdout.strip()), "bench/userland")
        self.userland_initramfs = self.userland + ".cpio"
        self._expected = ""

    def missing(self):
        needed = [self.suite, self.kernel, self.base_initramfs, self.busybox]
        return [path for path in needed if not os.path.exists(path)]

    def learn_checksums(self, pattern):
        """Runs the rows that `pattern` chooses natively, for the checksums that guests have to reach. False: there are none."""
        command = [self.suite, "--ms", "1", "--only", pattern, "--busybox", self.busybox, "--directory", "/dev/shm"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(done.stdout)
        self._expected = done.stdout
        return bool(done.stdout)

    def make_userland(self):
        """Packages of a compiler, Python and OpenSSL, unpacked for the host, and packed for guests."""
        subprocess.run([os.path.join(HERE, "fetch-userland"), self.userland], check=True)
        if not os.path.exists(self.userland_initramfs):
            archive = Archive()
            archive.add_tree(self.userland)
            with open(self.userland_initramfs + ".new", "wb") as file:
                file.write(archive.bytes())
            os.rename(self.userland_initramfs + ".new", self.userland_initramfs)
        for name, path in [*self._programs(), ("bin/busybox", self.busybox)]:
            target = os.path.join(self.userland, name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy(path, target)

    def job_archive(self, job):
        archive = Archive()
        for name, path in self._programs():
            archive.add_path(name, path)
        archive.add("bench/expected", self._expected.encode())
        archive.add("bench/job", job.encode())
        return archive.bytes()

    def _programs(self):
        """What is in /bench of every machine."""
        guest = os.path.join(HERE, "guest")
        yield "bench/suite", self.suite
        for name in ("init", "whole", "stress", "benchmark.py"):
            yield "bench/" + name, os.path.join(guest, name)
        for name in PROJECT:
            yield "bench/project/" + name, os.path.join(guest, name)

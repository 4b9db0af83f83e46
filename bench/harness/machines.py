"""Where a job runs: on the host itself, or in a guest under Doppel or QEMU. Each yields the job's output lines, and of a
guest the moments of its boot."""

import os
import shutil
import subprocess
import tempfile
import threading
import time

SHELL_PROMPT = b"# "


class Failed(Exception):
    """A job did not do what it should have; the text says which, and shows its output."""


class Native:
    """The host. Jobs of a userland run in a change of root."""

    name = "native"

    def __init__(self, files, directory="/dev/shm"):
        self._files = files
        self._directory = directory

    def suite(self, arguments, cpus):
        command = [self._files.suite, "--busybox", self._files.busybox, "--directory", self._directory]
        return self._lines(command + arguments + ["--copies", str(cpus)])

    def userland(self, cpus):
        root = self._files.userland
        enter = ["chroot", root] if os.getuid() == 0 else ["unshare", "--map-root-user", "chroot", root]
        return self._lines(enter + ["/bin/busybox", "sh", "/bench/whole", str(cpus)])

    @staticmethod
    def _lines(command):
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Failed(f"native: {' '.join(command)}\n{done.stdout}{done.stderr}")
        return done.stdout.splitlines()


class Guest:
    """A machine with the benchmark's kernel. `command` makes of (kernel, initramfs, command line, cpus) what starts it;
    its serial port is its standard output. A job that takes longer than `seconds` has failed."""

    def __init__(self, name, files, command, seconds):
        self.name = name
        self._files = files
        self._command = command
        self._seconds = seconds

    def boot_to_init(self, cpus):
        """Seconds from the start of the process to the first line of process 1, and to the end of the process."""
        return self._job("true", cpus)[1:]

    def boot_to_shell(self, cpus):
        """Seconds from the start of the process to the prompt of the default guest."""
        start = time.monotonic()
        machine = self._start(self._files.base_initramfs, "console=ttyS0 quiet TERM=dumb", cpus)
        seen = b""
        with _Deadline(machine, self._seconds):
            while SHELL_PROMPT not in seen:
                more = os.read(machine.stdout.fileno(), 4096)
                if not more:
                    raise Failed(f"{self.name}: ended before its shell came\n{seen.decode(errors='replace')}")
                seen += more
            elapsed = time.monotonic() - start
            machine.kill()
            machine.communicate()
        return elapsed

    def suite(self, arguments, cpus):
        options = " ".join(f"'{argument}'" for argument in arguments)
        return self._job(f"exec /bench/suite {options} --check /bench/expected --copies {cpus}\n", cpus)[0]

    def userland(self, cpus):
        return self.userland_job(f"exec sh /bench/whole {cpus} --check /bench/expected\n", cpus)

    def userland_job(self, job, cpus):
        return self._job(job, cpus, [self._files.userland_initramfs])[0]

    def _job(self, job, cpus, more_initramfs=()):
        """What the job prints, and the seconds from the machine's start to process 1 and to its end."""
        lines = []
        to_init = 0
        with tempfile.NamedTemporaryFile(suffix=".cpio") as initramfs:
            for path in [self._files.base_initramfs, *more_initramfs]:
                with open(path, "rb") as part:
                    shutil.copyfileobj(part, initramfs)
            initramfs.write(self._files.job_archive(job))
            initramfs.flush()
            start = time.monotonic()
            machine = self._start(initramfs.name, "console=ttyS0 quiet rdinit=/bench/init", cpus)
            with _Deadline(machine, self._seconds):
                for line in machine.stdout:
                    lines.append(line.decode(errors="replace").rstrip("\r\n"))
                    if lines[-1] == "@init":
                        to_init = time.monotonic() - start
                errors = machine.communicate()[1].decode(errors="replace")
        if "@init" not in lines or "@end 0" not in lines:
            raise Failed("\n".join([f"{self.name}: the job failed", *lines[-40:], errors]))
        return lines[lines.index("@init") + 1 : lines.index("@end 0")], to_init, time.monotonic() - start

    def _start(self, initramfs, command_line, cpus):
        command = self._command(self._files.kernel, initramfs, command_line, cpus)
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


class _Deadline:
    """Ends a machine that takes too long; its output then ends, too."""

    def __init__(self, machine, seconds):
        self._timer = threading.Timer(seconds, machine.kill)

    def __enter__(self):
        self._timer.start()

    def __exit__(self, *_):
        self._timer.cancel()


def doppel(program, engine, memory, more_options=()):
    """The command of a Guest under Doppel."""

    def command(kernel, initramfs, command_line, cpus):
        return [program, "run", kernel, "--initrd", initramfs, "--append", command_line, "--engine", engine,
                "--memory", memory, "--cpus", str(cpus), *more_options]

    return command


def tcg(memory):
    """The command of a Guest under QEMU's translator."""

    def command(kernel, initramfs, command_line, cpus):
        return ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", memory, "-smp", str(cpus),
                "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
                "-kernel", kernel, "-initrd", initramfs, "-append", command_line]

    return command

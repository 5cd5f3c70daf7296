"""What the walk prints: headlines, commands with their output, a summary."""

import shlex
import subprocess
import time
from collections import deque
from contextlib import contextmanager


class Failure(Exception):
    """Something did not do what it must; the text says what."""


class Show:
    """Prints, and keeps what the summary needs: times of steps and promises."""

    def __init__(self, binary: str, env: dict, folder: str) -> None:
        self.binary, self.env, self.folder = binary, env, folder
        self.began = time.monotonic()
        self.steps: list[tuple[str, str, float]] = []
        self.promises: list[tuple[bool, bool, str]] = []

    @contextmanager
    def step(self, name: str, about: str):
        print(f"\n━━ {name}: {about}", flush=True)
        began = time.monotonic()
        yield
        seconds = time.monotonic() - began
        self.steps.append((name, about, seconds))
        print(f"   ({seconds:.1f} s)", flush=True)

    def say(self, text: str) -> None:
        print(f"   {text}".rstrip(), flush=True)

    def promise(self, kept: bool, text: str, timed: bool = False) -> None:
        """Notes whether a promise was kept. A broken one fails the walk at its
        end; a timed one, which the machine decides too, is only reported."""
        self.promises.append((kept, timed, text))
        self.say(("✓ " if kept else "✗ ") + text)

    def muonic(self, *args: str, lines: int = 12, wait_for: str | None = None) -> float | None:
        """Runs `muonic ARGS`, printing the command and its output as it comes.

        Beyond `lines` only the last two lines are shown. With `wait_for`,
        answers the seconds until the first line that begins with it.
        """
        return self.run([self.binary, *args], "muonic " + shlex.join(args), lines, wait_for)

    def run(self, command: list[str], text: str, lines: int = 12, wait_for: str | None = None) -> float | None:
        print(f"\n   $ {text}", flush=True)
        began = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        count, tail, seen = 0, deque(maxlen=2), None
        try:
            for line in process.stdout:
                line = line.rstrip("\n")
                if seen is None and wait_for and line.startswith(wait_for):
                    seen = time.monotonic() - began
                count += 1
                if count <= lines:
                    self.say(f"  {line}")
                else:
                    tail.append(line)
            status = process.wait()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        left_out = count - lines - len(tail)
        if left_out > 0:
            self.say(f"  … {left_out} more lines")
        for line in tail:
            self.say(f"  {line}")
        if status != 0:
            raise Failure(f"`{text}` ended with exit status {status}")
        if wait_for and seen is None:
            raise Failure(f"`{text}` printed no line that begins with '{wait_for}'")
        return seen

    def summary(self) -> bool:
        """Prints what was done; true where every promise was kept."""
        print("\n━━ done")
        for name, about, seconds in self.steps:
            print(f"   {name:<12}{seconds:6.1f} s   {about}")
        total = time.monotonic() - self.began
        print(f"   {'total':<12}{total:6.1f} s   (aim: at most 60 s with packages cached)\n")
        for kept, timed, text in self.promises:
            print(f"   {'✓' if kept else '✗'} {text}{'' if kept or not timed else ' (depends on the machine)'}")
        return all(kept or timed for kept, timed, _ in self.promises)

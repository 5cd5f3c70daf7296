"""The fork server: a process that has imported the class's module, and made
the class where that can be shared, and forks a worker whenever it is told to.

Each step is taken in a fork of the process before it. What a fork would not
have (threads, the place in an open file, a connection) must not be there
before a worker is forked: where a step leaves such a thing, the process that
took it becomes the first worker, and the one before it, which has taken no
such step, forks the others, which take it themselves.
"""

import ctypes
import gc
import select
import signal
import socket
import time
import warnings

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_libc = ctypes.CDLL(None, use_errno=True)
# Longest time that a fork that does nothing may take.
_TRIAL_LIMIT = 5.0


def fork():
    """As `os.fork`; the child is killed when this process ends."""
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    with warnings.catch_warnings():
        # Of threads, which `survives_fork` has looked at.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    return pid


def held():
    """What this process has open, but for files without a state."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink("/proc/self/fd/" + name)
        except OSError:
            continue
        if target not in ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"):
            found.add((name, target))
    return found


def survives_fork(before):
    """Whether a fork has all that this process has; `before`: what was open."""
    gc.collect()
    if held() - before or _has_children():
        return False
    if _threads() > 1:
        # Libraries that mind forks end their threads in one, to start them
        # anew when needed (OpenBLAS). Threads that are still there are others'.
        pid = fork()
        if pid == 0:
            os._exit(0)
        until = time.monotonic() + _TRIAL_LIMIT
        while os.waitpid(pid, os.WNOHANG)[0] == 0:
            if time.monotonic() > until:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return False
            time.sleep(0.0005)
        return _threads() == 1
    return True


def _has_children():
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _threads():
    return len(os.listdir("/proc/self/task"))


class ForkServer:
    """Told over `control`, one message each: `spawn N`, with the files of worker
    N's channel, and `end N MILLISECONDS`, answered with how worker N ended, which
    is killed if it has not within that time."""

    def __init__(self, control):
        self._control = control
        self._pids = {}
        self._ended = {}
        self._own = ()

    def first(self):
        """Its number, and the files of its channel."""
        message = self._receive()
        return message[0][1], message[1]

    def serve(self, first, fds, pid, run):
        """Goes on until the replica is gone. `run` is a worker, from its
        channel on; worker `first` runs already where `pid` is not None."""
        # What a dead worker has started becomes ours.
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
        gc.collect()
        # So that looking for garbage copies no page that workers share.
        gc.freeze()
        wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._own = (wake, woken)
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(wake, select.POLLIN)
        if pid is None:
            self.spawn(first, fds, run)
        else:
            close(fds)
            self._pids[first] = pid
        while True:
            self._reap()
            for fd, _ in poll.poll():
                if fd == wake:
                    os.read(wake, 512)
                else:
                    (what, number, *rest), fds = self._receive()
                    if what == "spawn":
                        self.spawn(number, fds, run)
                    else:
                        self._end(number, rest[0])

    def spawn(self, number, fds, run):
        pid = fork()
        if pid == 0:
            become_worker(self._control)
            close(self._own)
            run(fds)
        _own_group(pid)
        close(fds)
        self._pids[number] = pid

    def _receive(self):
        try:
            data, fds, _, _ = socket.recv_fds(self._control, 512, 3)
        except ConnectionResetError:
            data = b""
        if not data:
            self._leave()
        return json.loads(data), fds

    def _leave(self):
        """With all workers: when this process is gone they are."""
        for pid in self._pids.values():
            _kill_group(pid)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os._exit(0)

    def _reap(self):
        """Ends what a dead worker has started, while its number is still its own."""
        while True:
            try:
                about = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if about is None:
                return
            self._bury(about.si_pid)

    def _bury(self, pid):
        number = next((n for n, p in self._pids.items() if p == pid), None)
        if number is not None:
            _kill_group(pid)
        _, status = os.waitpid(pid, 0)
        if number is not None:
            del self._pids[number]
            self._ended[number] = status

    def _end(self, number, patience_ms):
        until = time.monotonic() + patience_ms / 1000
        pid = self._pids.get(number)
        if pid is not None:
            while not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if time.monotonic() >= until:
                    _kill_group(pid)
                    os.kill(pid, signal.SIGKILL)
                    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
                    break
                time.sleep(0.0005)
            self._bury(pid)
        try:
            self._control.send(json.dumps(self._ended.pop(number, None)).encode())
        except OSError:
            self._leave()


def close(fds):
    for fd in fds:
        os.close(fd)


def become_worker(control):
    _own_group(0)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    control.close()


def _own_group(pid):
    """Of a fork, set by both so that neither finds it unset."""
    try:
        os.setpgid(pid, pid)
    except OSError:
        pass


def _kill_group(pid):
    try:
        os.killpg(pid, signal.SIGKILL)
    except OSError:
        pass


def end_like(pid):
    """Waits for a fork, and ends this process as it ended."""
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)

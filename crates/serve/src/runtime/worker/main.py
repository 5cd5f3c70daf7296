"""The worker of a model that is a Python class.

Started as `python worker.py MODEL_FOLDER PROGRAM`: PROGRAM is the file that
has the class `Handler`. One worker makes one `Handler(path)` (or has that of
the process it was forked from) and calls its `predict` once per request.
"""

import importlib.machinery
import importlib.util
import traceback


def _sentence(error):
    text = " ".join(str(error).split())[:1000]
    return "%s: %s" % (type(error).__name__, text) if text else type(error).__name__


def _ports(handler, name):
    """What the class says of its inputs or outputs, or None."""
    ports = getattr(handler, name, None)
    if ports is None or callable(ports):
        return None
    return [{"name": str(p["name"]), "datatype": str(p["datatype"]), "shape": [int(d) for d in p["shape"]]} for p in ports]


def _setting(handler, name, kind, default):
    value = getattr(handler, name, default)
    if type(value) is not kind:
        raise Refused("Handler.%s is %r; it must be %s" % (name, value, "a number" if kind is int else "True or False"))
    return value


class Program:
    """The steps from nothing to a class that is made."""

    def __init__(self, folder, path):
        self._folder, self._path = folder, path
        self._class = None
        self.handler = None

    def import_it(self):
        sys.path[0] = self._folder
        os.chdir(self._folder)
        loader = importlib.machinery.SourceFileLoader("handler", self._path)
        spec = importlib.util.spec_from_file_location("handler", self._path, loader=loader)
        module = importlib.util.module_from_spec(spec)
        sys.modules["handler"] = module
        loader.exec_module(module)
        made = getattr(module, "Handler", None)
        if not isinstance(made, type):
            raise Refused("handler.py has no class Handler")
        if not callable(getattr(made, "predict", None)):
            raise Refused("the class Handler has no method predict(self, inputs)")
        self.may_share = _setting(made, "share", bool, True)
        try:
            import numpy
        except ImportError:
            numpy = None
        self.numpy = numpy
        self._class = made

    def make_it(self):
        self.handler = self._class(self._folder)

    def finish(self):
        """All that has not been done yet."""
        if self._class is None:
            self.import_it()
        if self.handler is None:
            self.make_it()


def _tell_failure(channel, error):
    traceback.print_exc()
    channel.send({"failed": str(error) if isinstance(error, Refused) else _sentence(error)})


def _channel(fds):
    # Files that are passed along are inherited by programs unless said otherwise.
    for fd in fds:
        os.set_inheritable(fd, False)
    sock, *files = fds
    return Channel(socket.socket(fileno=sock), *files)


def _work(fds, program, shares):
    """A worker, from its channel to the end of its process."""
    channel = _channel(fds)
    try:
        program.finish()
        handler = program.handler
        if callable(getattr(handler, "start_worker", None)):
            handler.start_worker()
        ready = {
            "pid": os.getpid(),
            "shares": shares,
            "inputs": _ports(handler, "inputs"),
            "outputs": _ports(handler, "outputs"),
            "workers": _setting(handler, "workers", int, 1),
            "batches": _setting(handler, "batches", bool, False),
            "table": _setting(handler, "table", bool, False),
            "retry": _setting(handler, "retry", bool, True),
            "numpy": program.numpy is not None,
        }
    except BaseException as error:  # noqa: B902 - whatever it is, the replica must hear of it
        _tell_failure(channel, error)
        leave()
    channel.send(ready)
    predict, numpy = handler.predict, program.numpy
    while True:
        tensors, parts, shared = channel.receive(), (), 0
        try:
            head, parts = _encode(predict(_decode(tensors, numpy)), numpy)
            parts, shared = channel.settle(parts)
        except Refused as error:
            head = {"fault": str(error)}
        except ValueError as error:
            traceback.print_exc()
            head = {"refused": _sentence(error)}
        except Exception as error:
            traceback.print_exc()
            head = {"fault": _sentence(error)}
        # Of a request that failed nothing goes out, and nothing of one is kept.
        channel.send(head, parts if "outputs" in head else (), shared)
        tensors = parts = None
        sys.stdout.flush()


def main():
    # The user's code must not reach the replica: its stdin is empty, its
    # stdout is the log.
    control = socket.socket(fileno=os.dup(0))
    control.set_inheritable(False)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    # A line at once, so that those of several workers do not mix.
    sys.stdout.reconfigure(line_buffering=True)
    sys.stderr.reconfigure(line_buffering=True)

    program = Program(os.path.abspath(sys.argv[1]), sys.argv[2])
    server = ForkServer(control)
    number, fds = server.first()
    pid, shares = None, "nothing"
    for step, reached in ((program.import_it, "imports"), (program.make_it, "model")):
        if reached == "model" and not program.may_share:
            break
        verdict, tell = os.pipe()
        child = fork()
        if child == 0:
            os.close(verdict)
            before = held()
            try:
                step()
                good = survives_fork(before)
            except BaseException as error:  # noqa: B902 - whatever it is, the replica must hear of it
                _tell_failure(_channel(fds), error)
                sys.stderr.flush()
                os._exit(1)
            os.write(tell, b"+" if good else b"-")
            os.close(tell)
            if not good:
                become_worker(control)
                _work(fds, program, shares)
            shares = reached
            continue
        os.close(tell)
        said = os.read(verdict, 1)
        os.close(verdict)
        if said == b"-":
            pid = child
            break
        close(fds)
        control.close()
        end_like(child)
    server.serve(number, fds, pid, lambda fds: _work(fds, program, shares))


if __name__ == "__main__":
    main()

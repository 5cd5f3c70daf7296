"""Frames between the replica and a worker, over a stream socket, in both
directions: four little-endian 32-bit numbers (the length of the JSON, of the
binary data behind it, of the data in shared memory, and flags), then JSON,
then data: the tensors' elements one after the other.

Data of a middling size goes through memory that both have, an anonymous file
for each direction, which only grows. There each tensor begins at a multiple of
64. The replica writes into its own again once it has its answer; so a worker
whose class still holds an array of it says so (KEPT), and is sent nothing that
way any more.
"""

import mmap
import socket

_ALIGN = 64
_HEAD = struct.Struct("<IIII")
_KEPT = 1
# Less is copied through the socket as fast; more is not worth being kept.
_SHARED_BYTES_MIN, _SHARED_BYTES_MAX = 256 << 10, 16 << 20
# Up to this size one piece is sent faster than several.
_WHOLE_BYTES_MAX = 64 << 10
# Heads that are remembered: most requests have the same.
_HEADS_MAX, _HEAD_BYTES_MAX = 64, 1024

_to_json = json.JSONEncoder(separators=(",", ":")).encode


class Channel:
    """`theirs` is the file that the replica writes to, `ours` the other."""

    def __init__(self, sock, theirs, ours):
        self._socket, self._theirs, self._ours = sock, theirs, ours
        self._buffer = bytearray(64 << 10)
        self._view = memoryview(self._buffer)
        # Their memory, how many refer to it while nobody uses it, and whether
        # the present request came in it.
        self._mapped, self._unused, self._lent = None, 0, False
        self._known = {}

    def receive(self):
        """Each tensor's head and bytes. Ends the process where the replica is
        gone."""
        view = self._view
        got = self._socket.recv_into(view)
        while 0 < got < _HEAD.size:
            more = self._socket.recv_into(view[got:])
            got = got + more if more else 0
        if not got:
            leave()
        length, inline, shared, _ = _HEAD.unpack_from(view)
        at = min(got, _HEAD.size + length)
        text = view[_HEAD.size:at].tobytes()
        if len(text) < length:
            text += self._rest(bytearray(length - len(text)), 0)
        heads = self._known.get(text)
        if heads is None:
            heads = json.loads(text)["inputs"]
            if length <= _HEAD_BYTES_MAX and len(self._known) < _HEADS_MAX:
                self._known[text] = heads
        tensors = []
        if shared:
            if self._mapped is None or len(self._mapped) < shared:
                self._mapped = mmap.mmap(self._theirs, os.fstat(self._theirs).st_size)
                self._unused = _references(self._mapped)
            self._lent = True
            whole, offset = memoryview(self._mapped), 0
            for head in heads:
                tensors.append((head, whole[offset:offset + head["bytes"]]))
                offset += _padded(head["bytes"])
            return tensors
        for head in heads:
            # A buffer of its own, which becomes the array's memory.
            size = head["bytes"]
            data = bytearray(view[at:at + size]) if at + size <= got else self._rest(bytearray(size), at, got)
            at = min(at + size, got)
            tensors.append((head, data))
        return tensors

    def _rest(self, data, at, got=0):
        """Fills it: with what is left of the buffer, and from the socket."""
        have = max(0, got - at)
        data[:have] = self._view[at:at + have]
        rest = memoryview(data)
        while have < len(data):
            n = self._socket.recv_into(rest[have:])
            if not n:
                leave()
            have += n
        return data

    def settle(self, parts):
        """The data of an answer as it is sent, nothing of which is in their
        memory; where all is in ours, none, and its size there."""
        size = 0
        for part in parts:
            size += _padded(len(part))
        if not _SHARED_BYTES_MIN <= size <= _SHARED_BYTES_MAX:
            return [bytes(part) for part in parts] if self._lent else parts, 0
        at = 0
        for part in parts:
            _write(self._ours, part, at)
            at += _padded(len(part))
        if os.fstat(self._ours).st_size < size:
            # The last one's padding.
            os.ftruncate(self._ours, size)
        return (), size

    def send(self, head, parts=(), shared=0):
        flags = 0
        if self._lent and _references(self._mapped) > self._unused:
            flags, self._mapped = _KEPT, None
        self._lent = False
        size = 0
        for part in parts:
            size += len(part)
        if size >= 1 << 32:
            head, parts, size = {"fault": "the answer is larger than 4 GiB"}, (), 0
        text = _to_json(head).encode()
        message = [_HEAD.pack(len(text), size, shared, flags), text, *parts]
        try:
            if size <= _WHOLE_BYTES_MAX:
                self._socket.sendall(b"".join(message))
            else:
                for part in message:
                    self._socket.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            leave()


def _padded(size):
    return -(-size // _ALIGN) * _ALIGN


def _references(thing):
    """Each view of it holds one, and each array holds a view."""
    return sys.getrefcount(thing)


def _write(fd, part, at):
    rest = memoryview(part).cast("B")
    while rest:
        n = os.pwrite(fd, rest, at)
        rest, at = rest[n:], at + n


def leave():
    """Ends this process at once; what others have in hand is theirs."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(0)

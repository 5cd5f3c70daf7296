"""TLS in front of the S3 door, as a reverse proxy would do it, with a
certificate of its own making. It shows what the client sent, so that a test
can say which framing was used."""

import socket
import ssl
import threading
from pathlib import Path

import trustme

PIECE = 1 << 16


class Tls:
    def __init__(self, door: str, folder: Path) -> None:
        host, port = door.split(":")
        self.door = (host, int(port))
        self.ca_file = folder / "ca.pem"
        ca = trustme.CA()
        ca.cert_pem.write_to_path(self.ca_file)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert("localhost", "127.0.0.1").configure_cert(self.context)
        # The first bytes of every connection's requests, in the order they came.
        self.seen: list[bytes] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            with self.context.wrap_socket(client, server_side=True) as inside, socket.create_connection(self.door) as door:
                back = threading.Thread(target=self._copy, args=(door, inside, False), daemon=True)
                back.start()
                self._copy(inside, door, True)
                back.join()
        except OSError:
            pass  # a client that goes away is no error of the proxy

    def _copy(self, source: socket.socket, target: socket.socket, show: bool) -> None:
        try:
            while piece := source.recv(PIECE):
                if show:
                    self.seen.append(piece[:4096])
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def requests(self, word: bytes) -> list[bytes]:
        """The pieces that hold the word."""
        return [piece for piece in self.seen if word.lower() in piece.lower()]

    def close(self) -> None:
        self.listener.close()

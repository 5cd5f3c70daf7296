"""A program that a model is served by, for tests: says what it was asked."""

import json
import os
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

state = {"health": 200, "gone": 0}
print("hello from the program, SECRET is", "there" if os.environ.get("TEST_SECRET") else "not there", flush=True)
print("and on its standard error", file=sys.stderr, flush=True)


class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def body(self):
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        whole = b""
        while size := int(self.rfile.readline(), 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return whole

    def send(self, code, body, kind="application/json"):
        self.send_response(code)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-own", "kept")
        self.end_headers()
        self.wfile.write(body)

    def stream(self):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            for n in range(int(self.headers.get("x-events", "3"))):
                event = f"data: {n} {time.time()}\n\n".encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
                time.sleep(0.1)
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            state["gone"] += 1

    def answer(self):
        body = self.body()
        path = self.path.split("?")[0]
        if path == "/health":
            self.send(state["health"], b"")
        elif path == "/events":
            self.stream()
        elif path == "/die":
            os._exit(3)
        elif path == "/ill":
            state["health"] = 500
            self.send(200, b"{}")
        elif path == "/child":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            self.send(200, json.dumps(child.pid).encode())
        elif path == "/slow":
            time.sleep(30)
        else:
            about = {"method": self.command, "path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()},
                     "size": len(body), "body": body[:100].decode("latin-1"), "pid": os.getpid(), "gone": state["gone"],
                     "folder": os.getcwd(), "words": sys.argv[1:]}
            self.send(418 if path == "/teapot" else 200, json.dumps(about).encode())

    do_GET = do_POST = do_PUT = do_DELETE = answer


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), App).serve_forever()

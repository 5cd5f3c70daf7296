"""How soon a job's code runs, and how many jobs go through in a second."""

import http.client
import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from measure import Bench, Row, interleaved, seconds, spawn_true
from server import Server

# Prints its interpreter, so that the baseline runs with the same one.
SCRIPT = "import sys\nprint(sys.executable, flush=True)\n"
REQUIREMENTS = "typing_extensions==4.16.0\n"
SMALL = {"cpu": "250m", "memory": "64Mi"}
JOBS = 200
CLIENTS = 8
TIMEOUT_S = 300


def run(bench: Bench) -> list[Row]:
    server = bench.server("jobs")
    try:
        server.start()
        return [first_line(bench, server), throughput(bench, server)]
    finally:
        server.stop()


def first_line(bench: Bench, server: Server) -> Row:
    code = bench.folder / "hello"
    code.mkdir()
    (code / "hello.py").write_text(SCRIPT)
    (code / "requirements.txt").write_text(REQUIREMENTS)
    asks = "cpu=250m,memory=64Mi"
    bench.muonic(server, "job", "run", str(code), "--name", "hello", "--resources", asks, "--", "python", "hello.py")
    job = server.call("GET", "/jobs/hello-1")
    _, log = server.fetch("GET", "/api/v1/jobs/hello-1/logs")
    python = next(line for line in log.decode().splitlines() if line.startswith("/"))

    def submitted() -> float:
        began = time.perf_counter()
        made = server.call("POST", "/jobs", job["spec"])
        connection = server.connect(timeout=60)
        headers = {"authorization": f"Bearer {server.token}"}
        connection.request("GET", f"/api/v1/jobs/{made['id']}/logs?follow=true", headers=headers)
        response = connection.getresponse()
        while (line := response.readline()) and not line.startswith(python.encode()):
            pass
        took = time.perf_counter() - began
        if not line:
            raise RuntimeError(f"the log of {made['id']} ended without a line of its script")
        connection.close()
        finished(server, made["id"])
        return took

    def bare() -> float:
        began = time.perf_counter()
        process = subprocess.Popen([python, "hello.py"], cwd=code, stdout=subprocess.PIPE)
        process.stdout.readline()
        took = time.perf_counter() - began
        process.wait()
        return took

    ours, baseline = interleaved(bench.rounds(20), submitted, bare)
    return Row("submit to first line of user code", ours * 1e3, baseline * 1e3, "ms", "the same script, bare", "<= 100 ms")


def throughput(bench: Bench, server: Server) -> Row:
    def submit(count: int) -> list[str]:
        connection = server.connect()
        headers = {"authorization": f"Bearer {server.token}", "content-type": "application/json"}
        body = json.dumps({"name": "true", "command": ["true"], "resources": SMALL})
        made = []
        for _ in range(count):
            connection.request("POST", "/api/v1/jobs", body, headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
            if response.status >= 300:
                raise RuntimeError(f"submitting answered {response.status}: {answer}")
            made.append(answer["id"])
        connection.close()
        return made

    def all_done() -> float:
        began = time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as pool:
            ids = [i for made in pool.map(submit, [JOBS // CLIENTS] * CLIENTS) for i in made]
        while True:
            status = server.call("GET", "/status")
            if status["jobs_queued"] + status["jobs_running"] == 0:
                break
            if time.perf_counter() - began > TIMEOUT_S:
                raise RuntimeError(f"jobs still wait after {TIMEOUT_S} s: {status}")
            time.sleep(0.01)
        took = time.perf_counter() - began
        for job in ids:
            finished(server, job)
        return len(ids) / took

    def spawned() -> float:
        return JOBS / seconds(lambda: [spawn_true() for _ in range(JOBS)])

    ours, baseline = interleaved(bench.rounds(3), all_done, spawned)
    return Row(f"jobs of `true`, {JOBS} submitted over HTTP", ours, baseline, "/s", "spawning /bin/true", ">= 100 /s")


def finished(server: Server, job_id: str) -> None:
    try:
        job = server.call("GET", f"/jobs/{job_id}/wait?timeout_s=60")
    except http.client.HTTPException as error:
        raise RuntimeError(f"waiting for {job_id}: {error}") from error
    if job["state"] != "succeeded":
        raise RuntimeError(f"job {job_id} is {job['state']}: {job['reason']}")

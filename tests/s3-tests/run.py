"""Runs ceph/s3-tests against a fresh `muonic up` and says how it went.

Called by scripts/s3-tests. The rate is the tests that passed by all that count
(selection.py); one that failed, broke off or was skipped did not pass.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path

import accounts
import selection

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
EXPECTED = HERE / "expected-failures.txt"
sys.path.insert(0, str(ROOT / "scripts" / "demo"))

from server import Server, end  # noqa: E402 (it lies beside the demo, which starts servers too)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/s3-tests", description="Run ceph/s3-tests against a fresh server.")
    parser.add_argument("folder", type=Path, help="a checkout of ceph/s3-tests; it is only read")
    parser.add_argument("--report", type=Path, help="where to write every outcome, as JSON")
    parser.add_argument("--workers", type=int, default=2, help="tests that run at a time (default: 2)")
    parser.add_argument("--timeout", type=int, default=120, help="seconds that one test may take (default: 120)")
    parser.add_argument("--all", action="store_true", help="run what does not count, too")
    parser.add_argument("--binary", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--from", dest="start", type=Path, required=True, help=argparse.SUPPRESS)
    args, pytest_args = parser.parse_known_args()
    folder = args.start / args.folder
    if not (folder / "s3tests" / "functional" / "test_s3.py").is_file():
        parser.error(f"{folder} holds no s3tests/functional/test_s3.py: it is no checkout of ceph/s3-tests")

    # Ends by the same path as Ctrl-C, so that the server is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="muonic-s3-tests-") as temporary:
        suite = Suite(args, folder.resolve(), Path(temporary), pytest_args)
        began = time.monotonic()
        groups, outcomes = suite.run()
        seconds = time.monotonic() - began
    if not outcomes:
        print("s3-tests: no test ran", file=sys.stderr)
        return 2
    if args.report:
        report = {"version": 1, "seconds": round(seconds, 1), "groups": groups, "tests": outcomes}
        (args.start / args.report).write_text(json.dumps(report, indent=1, sort_keys=True) + "\n")
    table(groups, outcomes, seconds)
    return compare(outcomes, whole=not pytest_args)


class Suite:
    """One run of the suite: its server, its accounts, its two passes."""

    def __init__(self, args: argparse.Namespace, folder: Path, temporary: Path, pytest_args: list[str]) -> None:
        self.args, self.folder, self.temporary, self.pytest_args = args, folder, temporary, pytest_args

    def run(self) -> tuple[dict, dict]:
        data = self.temporary / "data"
        kept = {k: v for k, v in os.environ.items() if not k.startswith("AWS_") and k not in ("MUONIC_SERVER", "MUONIC_TOKEN")}
        env = {**kept, "MUONIC_DATA": str(data)}
        log = ROOT / "build" / "s3-tests" / "server.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        server = Server(self.args.binary, data, log, env)
        try:
            server.start()
            endpoint = urllib.parse.urlsplit(json.loads((data / "local.json").read_text())["s3_url"])
            made = [accounts.create(self.args.binary, env, f"s3-{name}") for name in ("main", "alt", "tenant")]
            if len({account.project for account in made}) == 1:
                print("s3-tests: this program has one project only: main, alt and tenant are the same account", file=sys.stderr)
            accounts.create_encryption_keys(self.args.binary, env)
            conf = self.temporary / "s3tests.conf"
            conf.write_text(accounts.configuration(endpoint.hostname, endpoint.port, *made))
            conf.chmod(0o600)
            alone = self.one_pass("alone", kept, conf)
            together = self.one_pass("together", kept, conf)
            groups = json.loads((self.temporary / "alone.groups").read_text())
        finally:
            server.stop()
        return groups, {**alone, **together}

    def one_pass(self, name: str, env: dict, conf: Path) -> dict:
        results = self.temporary / name
        functional = self.folder / "s3tests" / "functional"
        files = sorted(functional.glob("test_*.py")) if self.args.all else [functional / f for f in selection.COUNTED_FILES]
        workers = ["-n", str(self.args.workers), "--dist", "worksteal"] if name == "together" and self.args.workers > 1 else []
        command = [
            *[sys.executable, "-m", "pytest", "-p", "collector", "-p", "no:cacheprovider", "--rootdir", str(self.folder)],
            *["-c", str(self.folder / "pytest.ini"), "-q", "--tb", "no", "--no-header", "--no-summary"],
            *["-W", "ignore", "--timeout", str(self.args.timeout), *workers, *self.pytest_args, *map(str, files)],
        ]
        env = {
            **env,
            "PYTHONPATH": str(HERE),
            "S3TEST_CONF": str(conf),
            "MUONIC_S3_TESTS_PASS": name,
            "MUONIC_S3_TESTS_ALL": "1" if self.args.all else "0",
            "MUONIC_S3_TESTS_RESULTS": str(results),
            # Nothing of the user's own accounts, and nothing asked of the network.
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        tests = subprocess.Popen(command, cwd=self.temporary, env=env, stdin=subprocess.DEVNULL, stdout=sys.stderr)
        try:
            status = tests.wait()
        finally:
            # Its workers end with it: they see their pipe closed.
            end(tests.pid, 20, reap=tests)
        # 0 passed, 1 some failed, 5 none selected.
        if status not in (0, 1, 5) or not results.exists():
            raise SystemExit(f"s3-tests: pytest ended with {status} (its message is above)")
        return json.loads(results.read_text())


def table(groups: dict, outcomes: dict, seconds: float) -> None:
    print(f"\n{'':<34}{'tests':>7}{'passed':>8}{'failed':>8}{'skipped':>9}")
    for group in sorted(groups, key=lambda g: (g != selection.COUNTED, g)):
        row(group, groups[group], [o for o in outcomes.values() if o["group"] == group])
    row("in all", sum(groups.values()), list(outcomes.values()))
    counted = [o for o in outcomes.values() if o["group"] == selection.COUNTED]
    passed = sum(o["outcome"] == "passed" for o in counted)
    if counted:
        print(f"\n{passed} of {len(counted)} that count passed: {100 * passed / len(counted):.1f} % ({seconds:.0f} s)")


def row(name: str, total: int, ran: list) -> None:
    if not ran:
        print(f"{name:<34}{total:>7}   not run")
        return
    counts = [sum(o["outcome"] == outcome for o in ran) for outcome in ("passed", "failed", "skipped")]
    print(f"{name:<34}{total:>7}{counts[0]:>8}{counts[1]:>8}{counts[2]:>9}")


def compare(outcomes: dict, whole: bool) -> int:
    """Names what differs from expected-failures.txt; answers 1 where a test that counts did not pass and is not expected to fail."""
    expected = read_expected()
    counted = {name: o for name, o in outcomes.items() if o["group"] == selection.COUNTED}
    surprises = {n: o for n, o in counted.items() if o["outcome"] != "passed" and n not in expected}
    passing = sorted(n for n in expected if n in counted and counted[n]["outcome"] == "passed")
    if passing:
        print(f"\n{len(passing)} in {EXPECTED.relative_to(ROOT)} pass now; take them out:")
        print("\n".join(f"  {name}" for name in passing))
    unknown = sorted(n for n in expected if n not in outcomes)
    if whole and unknown:
        print(f"\n{len(unknown)} in {EXPECTED.relative_to(ROOT)} did not run; this checkout may not have them:")
        print("\n".join(f"  {name}" for name in unknown))
    if surprises:
        print(f"\n{len(surprises)} did not pass and are not in {EXPECTED.relative_to(ROOT)}:")
        for name, outcome in sorted(surprises.items()):
            first = outcome["message"].splitlines()[0] if outcome["message"] else outcome["outcome"]
            print(f"  {name}  {first[:160]}")
    return 1 if surprises else 0


def read_expected() -> dict[str, str]:
    """Test to reason: one a line, the name, then the reason."""
    found = {}
    for number, line in enumerate(EXPECTED.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, reason = line.partition(" ")
        if not reason.strip():
            raise SystemExit(f"s3-tests: {EXPECTED.relative_to(ROOT)}:{number}: '{name}' has no reason")
        found[name] = reason.strip()
    return found


if __name__ == "__main__":
    sys.exit(main())

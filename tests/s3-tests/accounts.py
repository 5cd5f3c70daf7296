"""The accounts that the suite wants, as keys of projects, and its configuration file."""

import hashlib
import json
import subprocess
from dataclasses import dataclass

DEFAULT_PROJECT = "default"
# The keys that requests of SSE-KMS name.
ENCRYPTION_KEYS = ("testkey-1", "testkey-2")


@dataclass
class Account:
    """A project, as S3 sees it, and a key of it."""

    project: str
    key_id: str
    secret: str

    @property
    def canonical_id(self) -> str:
        return hashlib.sha256(f"muonic project {self.project}".encode()).hexdigest()

    @property
    def email(self) -> str:
        return f"{self.project}@muonic.invalid"

    def lines(self) -> str:
        return (
            f"display_name = {self.project}\nuser_id = {self.canonical_id}\nemail = {self.email}\n"
            f"access_key = {self.key_id}\nsecret_key = {self.secret}\n"
        )


def create(binary: str, env: dict, project: str) -> Account:
    """Makes an administrator's key of `project`; of the default one where the program knows no projects yet."""
    done = command(binary, env, project, "--project", project)
    if done.returncode == 2 and "--project" in done.stdout + done.stderr:
        project = DEFAULT_PROJECT
        done = command(binary, env, "s3-tests")
    if done.returncode != 0:
        raise RuntimeError(f"'muonic key create' ended with {done.returncode}: {done.stderr or done.stdout}")
    made = json.loads(done.stdout)
    return Account(made.get("project", project), made["id"], made["secret"])


def command(binary: str, env: dict, name: str, *more: str) -> subprocess.CompletedProcess:
    args = [binary, "key", "create", name, "--role", "admin", *more, "--output", "json"]
    return subprocess.run(args, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)


def create_encryption_keys(binary: str, env: dict) -> None:
    for name in ENCRYPTION_KEYS:
        args = [binary, "store", "key", "create", name]
        done = subprocess.run(args, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"'muonic store key create' ended with {done.returncode}: {done.stderr or done.stdout}")


def configuration(host: str, port: int, main: Account, alt: Account, tenant: Account) -> str:
    """The text of s3tests.conf. The sections of IAM must be there, though what they are for is not run."""
    return f"""[DEFAULT]
host = {host}
port = {port}
is_secure = False
ssl_verify = False

[fixtures]
bucket prefix = muonic-{{random}}-

[s3 main]
{main.lines()}api_name = eu-central-1
kms_keyid = {ENCRYPTION_KEYS[0]}
kms_keyid2 = {ENCRYPTION_KEYS[1]}

[s3 alt]
{alt.lines()}
[s3 tenant]
{tenant.lines()}tenant = {tenant.project}

[iam]
{main.lines()}
[iam root]
{main.lines()}
[iam alt root]
{alt.lines()}"""

"""A server like the one a person starts: serve.py in a process of its own, with the tiny model of the prediction
tests."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT / "tests" / "predict"))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    import tiny_model

    return tiny_model.build(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def clips(tmp_path_factory) -> dict:
    import prediction_clips

    return prediction_clips.make_all(tmp_path_factory.mktemp("clips"))


class Server:
    """A running serve.py and a few calls to it."""

    def __init__(self, store, model, *arguments, secret=None):
        environment = {**os.environ, **({"DEEPFAKE_CALLBACK_SECRET": secret} if secret else {})}
        self.store = Path(store)
        self.process = subprocess.Popen(
            [
                sys.executable,
                str(PROJECT / "serve.py"),
                "--port",
                "0",
                "--store",
                str(store),
                "--model",
                str(model),
                "--frames",
                "4",
                *map(str, arguments),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        line = self.process.stdout.readline()
        found = re.search(r"http://([\d.]+):(\d+)", line)
        assert found, line + self.process.stderr.read()
        self.host, self.port = found[1], int(found[2])
        self.address = f"http://{self.host}:{self.port}"

    def call(self, method, path, body=None, headers=None):
        """(status, headers, body bytes)."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def json(self, method, path, body=None, headers=None):
        status, _, data = self.call(method, path, body, headers)
        return status, json.loads(data) if data else None

    def upload(self, path, name=None, query=""):
        return self.json(
            "POST",
            f"/api/videos?name={name or Path(path).name}{query}",
            Path(path).read_bytes(),
            {"Content-Type": "application/octet-stream"},
        )

    def wait(self, video, seconds=90):
        """The video's object once it is done or failed."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            status, got = self.json("GET", f"/api/videos/{video}")
            if status == 200 and got["state"] in ("done", "failed"):
                return got
            time.sleep(0.1)
        raise AssertionError(f"not done in {seconds} s: {got}")

    def stop(self, kill=False):
        self.process.send_signal(signal.SIGKILL if kill else signal.SIGINT)
        self.process.wait(30)
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture(scope="session")
def start():
    """Starts servers and stops them all at the end."""
    servers = []

    def one(*arguments, **options):
        servers.append(Server(*arguments, **options))
        return servers[-1]

    yield one
    for server in servers:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture(scope="session")
def server(start, tmp_path_factory, tiny_model):
    return start(tmp_path_factory.mktemp("store"), tiny_model, "--workers", 2, "--limit-mb", 5, "--queue", 30)

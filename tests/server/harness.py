"""A server to test against and the few ways to talk to it. Only the standard library."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FOVEAL = os.environ.get("FOVEAL_BINARY", str(ROOT / "build/release/bin/foveal"))
# Without a real model, a tiny random one that has no tokenizer: prompts are ids then.
MODEL = os.environ.get("FOVEAL_TEST_MODEL", "")
GOLDEN = ROOT / "tests/golden/llama3"
HANG_S = 300  # only a hang lasts so long, even where many processes share a core


class Server:
    """Waits as long for a client, which may be as slow, except where flags say otherwise."""

    def __init__(self, *flags, model=None):
        self.log = tempfile.NamedTemporaryFile("w+", suffix=".log")
        command = [FOVEAL, "serve", "-m", str(model or MODEL or GOLDEN), "--port", "0", "--threads", "1", "--device", "cpu",
                   "--kv-max-tokens", "16384", *flags]
        for wait in ("header", "body", "write", "shutdown"):
            if f"--{wait}-timeout-s" not in flags:
                command += [f"--{wait}-timeout-s", str(HANG_S)]
        self.process = subprocess.Popen(command, stderr=self.log, stdout=subprocess.DEVNULL)
        self.port = self._wait_for_port()

    def _wait_for_port(self):
        deadline = time.monotonic() + HANG_S
        while time.monotonic() < deadline:
            found = re.search(r"ready: https?://[^ ]*:(\d+)/v1", self.text())
            if found:
                return int(found.group(1))
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise RuntimeError("no server: " + self.text())

    def text(self):
        return pathlib.Path(self.log.name).read_text(errors="replace")

    def connect(self, timeout=HANG_S):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def socket(self, timeout=HANG_S):
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)

    def raw(self, data, silence=HANG_S):
        """Everything that comes back for these bytes until the server closes or falls silent."""
        with self.socket() as sock:
            out = b""
            with contextlib.suppress(OSError):  # it may close before it has read all
                sock.sendall(data)
                sock.settimeout(silence)
                while part := sock.recv(65536):
                    out += part
            return out

    def request(self, method, path, body=None, headers=None):
        connection = self.connect()
        try:
            data = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
            all_headers = {"Content-Type": "application/json"} if data is not None else {}
            connection.request(method, path, data, {**all_headers, **(headers or {})})
            response = connection.getresponse()
            text = response.read()
            return response.status, text, response.headers
        finally:
            connection.close()

    def post(self, path, body, headers=None):
        status, text, _ = self.request("POST", path, body, headers)
        return status, json.loads(text)

    def events(self, path, body):
        """The data of each server-sent event; the last must be [DONE] where the route has it."""
        status, text, headers = self.request("POST", path, body)
        assert status == 200, text
        assert headers["Content-Type"].startswith("text/event-stream")
        return [block.split("data: ", 1)[1] for block in text.decode().split("\n\n") if block]

    def metric(self, name):
        text = self.request("GET", "/metrics")[1].decode()
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.M)
        return float(found.group(1)) if found else None

    def wait_until(self, condition):
        """Whether it comes true before this must be a hang."""
        deadline = time.monotonic() + HANG_S
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def wait_idle(self):
        return self.wait_until(lambda: self.metric("foveal_completions_in_flight") == 0 and
                               self.metric("foveal_requests_running") == 0 and
                               self.metric('foveal_kv_pages{state="used"}') == 0)

    def wait_busy(self):
        return self.wait_until(lambda: self.metric("foveal_completions_in_flight") > 0)

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def stop(self):
        if self.process.poll() is None:
            self.signal()
            self.signal(signal.SIGINT)  # two of one kind may arrive as one
        code = self.process.wait(timeout=HANG_S)
        # A sanitizer writes to the log, and may go on; no test would see it otherwise.
        report = re.search(r"(ERROR|WARNING): \w+Sanitizer|runtime error: ", self.text())
        assert report is None, self.text()[report.start():][:8000]
        return code


def resident_kib(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().split("\n"):
        if line.startswith("RssAnon:"):
            return int(line.split()[1])
    return 0


def num_descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def in_threads(functions):
    """Runs them all at once; their results in order, or the first exception."""
    results = [None] * len(functions)

    def call(index):
        try:
            results[index] = functions[index]()
        except Exception as error:  # noqa: BLE001 - handed to the test
            results[index] = error

    threads = [threading.Thread(target=call, args=(index,)) for index in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results

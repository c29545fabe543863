"""What strangers send: framing, keys, limits, clients that stall or leave, ends. A tiny random model will
do; FOVEAL_TEST_MODEL is used where it is set."""

import http.client
import json
import random
import signal
import socket
import ssl
import subprocess
import tempfile
import unittest

import harness

IDS = [5, 6, 7, 8, 9]
GOOD = {"prompt": IDS, "max_tokens": 8, "temperature": 0, "ignore_eos": True}
LONG = {"prompt": IDS, "max_tokens": 3000, "temperature": 0, "ignore_eos": True}
LONGER = {**LONG, "n": 16, "stream": True, "logprobs": 0}
# About a minute even of a tiny model, and few bytes, which any client's buffers hold: whatever a test
# does meanwhile comes before its end.
LONGEST = {**LONG, "prompt": [IDS] * 8, "n": 128, "stream": True}
LONGEST_FLAGS = ("--max-n", "128")


def head(line, *fields, body=b""):
    return "\r\n".join([line, *fields, "", ""]).encode() + body


def status_of(answer):
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def post(body, *fields):
    data = json.dumps(body).encode()
    return head("POST /v1/completions HTTP/1.1", "Host: a", "Content-Type: application/json",
                f"Content-Length: {len(data)}", *fields, body=data)


class Safety(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = harness.Server("--max-body-bytes", "1048576", *LONGEST_FLAGS)

    @classmethod
    def tearDownClass(cls):
        assert cls.server.wait_idle(), cls.server.text()
        assert cls.server.process.poll() is None
        cls.server.stop()

    def good(self):
        status, text, _ = self.server.request("POST", "/v1/completions", GOOD)
        body = json.loads(text)
        self.assertEqual(status, 200, body)
        return body["choices"], body["usage"]["completion_tokens"]

    def test_framing(self):
        get = "GET /health HTTP/1.1"
        for expected, data in [
                (200, head(get, "Host: a", "Connection: close")),
                (200, head("GET /health HTTP/1.0")),
                (400, head(get)),
                (400, head(get, "Host: a", "Host: b")),
                (400, head(get, "Host: a", "X: y", " folded: z")),
                (400, head("POST /tokenize HTTP/1.1", "Host: a", "Content-Length: 2",
                           "Transfer-Encoding: chunked", body=b"{}")),
                (501, head("POST /tokenize HTTP/1.1", "Host: a", "Transfer-Encoding: gzip")),
                (400, head("POST /tokenize HTTP/1.0", "Host: a", "Transfer-Encoding: chunked")),
                (400, head("POST /tokenize HTTP/1.1", "Host: a", "Content-Length: -1")),
                (417, head(get, "Host: a", "Expect: tea")),
                (505, head("GET /health HTTP/3.0", "Host: a")),
                (431, head(get, "Host: a", "X: " + "y" * 20000)),
                (413, head("POST /tokenize HTTP/1.1", "Host: a", "Content-Length: 99999999")),
                (400, head("POST /tokenize HTTP/1.1", "Host: a", "Transfer-Encoding: chunked",
                           body=b"0x2\r\n{}\r\n0\r\n\r\n")),
                (400, head("POST /tokenize HTTP/1.1", "Host: a", "Transfer-Encoding: chunked",
                           body=b"2;" + b"e" * 9000)),
                (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")]:
            self.assertEqual(status_of(self.server.raw(data)), expected, data[:80])

    def test_chunked_body_and_expect(self):
        data = json.dumps(GOOD).encode()
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(data[at:at + 7]), data[at:at + 7])
                          for at in range(0, len(data), 7)) + b"0\r\n\r\n"
        request = head("POST /v1/completions HTTP/1.1", "Host: a", "Content-Type: application/json",
                       "Transfer-Encoding: chunked", "Connection: close", body=chunks)
        self.assertEqual(status_of(self.server.raw(request)), 200)
        with self.server.socket() as sock:
            sock.sendall(head("POST /v1/completions HTTP/1.1", "Host: a", "Expect: 100-continue",
                              f"Content-Length: {len(data)}", "Connection: close"))
            self.assertTrue(sock.recv(99).startswith(b"HTTP/1.1 100 Continue\r\n\r\n"))
            sock.sendall(data)
            self.assertEqual(status_of(sock.recv(65536)), 200)

    def test_methods(self):
        status, _, headers = self.server.request("PUT", "/v1/models")
        self.assertEqual((status, headers["Allow"]), (405, "GET, HEAD, OPTIONS"))
        self.assertEqual(self.server.request("GET", "/nowhere")[0], 404)
        self.assertEqual(self.server.request("OPTIONS", "/v1/completions")[0], 204)
        status, text, headers = self.server.request("HEAD", "/health")
        self.assertEqual((status, text), (200, b""))
        self.assertIsNone(headers["Access-Control-Allow-Origin"])
        self.assertEqual(self.server.request(
            "POST", "/tokenize", "prompt=a", {"Content-Type": "text/plain"})[0], 415)

    def test_openapi_lists_the_routes(self):
        status, text, _ = self.server.request("GET", "/openapi.json")
        self.assertEqual(status, 200)
        paths = json.loads(text)["paths"]
        for path, methods in paths.items():
            for method in methods:
                self.assertNotIn(self.server.request(method.upper(), path,
                                                     "{}" if method == "post" else None)[0], (404, 405))
        body = paths["/v1/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        for field in body["properties"]:  # known: not refused as unknown
            status, text, _ = self.server.request("POST", "/v1/completions", {"prompt": [5], field: {"": 0}})
            self.assertNotIn(f"[{field}] got unknown", text.decode())

    def test_pipelining(self):
        last = post(GOOD, "Connection: close")
        answer = self.server.raw(post(GOOD) * 3 + head("GET /version HTTP/1.1", "Host: a") + last)
        self.assertEqual(answer.count(b"HTTP/1.1 200 OK"), 5)
        self.assertEqual(answer.count(b'"text_completion"'), 4)
        self.assertLess(answer.index(b'"version"'), answer.rindex(b'"text_completion"'))

    def test_keep_alive(self):
        connection = self.server.connect()
        for _ in range(3):
            connection.request("GET", "/version")
            connection.getresponse().read()
        before = connection.sock
        connection.request("GET", "/version")
        connection.getresponse().read()
        self.assertIs(connection.sock, before)
        connection.close()

    def start_stream(self, body):
        sock = self.server.socket()
        sock.sendall(post(body))
        self.assertIn(b"200 OK", sock.recv(65536))
        return sock

    def num_cancelled(self):
        return self.server.metric('foveal_generations_total{outcome="cancelled"}') or 0

    def test_a_client_that_leaves_frees_its_pages(self):
        before = self.num_cancelled()
        self.start_stream(LONGEST).close()
        self.assertTrue(self.server.wait_idle())
        self.assertEqual(self.num_cancelled(), before + 1, "the stream went on")
        with self.server.socket() as sock:
            sock.sendall(post({**LONGEST, "stream": False}))
            self.assertTrue(self.server.wait_busy())
        self.assertTrue(self.server.wait_idle())
        self.assertEqual(self.num_cancelled(), before + 2, "the request went on")

    def test_hostile_values(self):
        """Every field with every kind of value: each answer is a 200 or a 400 that names a field."""
        values = [-1, 0, 2**31, 2**63, 2**64, -2**63, 1e308, -1e308, True, None, "", "x", "\u0000", [], {},
                  [[]], [None], [{}], {"a": 1}, 0.5, [-1], [2**40], "\U0001f600" * 50]
        fields = ["prompt", "max_tokens", "temperature", "top_p", "top_k", "min_p", "n", "best_of", "stop",
                  "seed", "logprobs", "echo", "stream", "stream_options", "logit_bias", "min_tokens",
                  "repetition_penalty", "presence_penalty", "frequency_penalty", "stop_token_ids", "bad",
                  "ignore_eos", "cache_salt", "sparse_attention", "model", "suffix", "guided_json",
                  "guided_regex", "guided_choice", "guided_grammar", "response_format", "nonsense"]
        connection = self.server.connect()
        for field in fields:
            for value in values:
                body = {**GOOD, "max_tokens": 1, field: value}
                if field == "max_tokens" and value == 2**31:
                    continue
                connection.request("POST", "/v1/completions", json.dumps(body),
                                   {"Content-Type": "application/json"})
                response = connection.getresponse()
                text = response.read()
                self.assertIn(response.status, (200, 400, 404), (field, value, text))
        connection.close()

    def test_hostile_bodies(self):
        for body in [b"", b"[]", b"null", b"{", b"\xff\xfe", b"[" * 100000, b'{"a":' * 100000,
                     b'{"prompt": "\xc3\x28"}', b'{"prompt": "\\ud800"}', b'{"prompt": [1], "prompt": [2]}',
                     b'{"prompt": [1], "temperature": NaN}', b'{"prompt": [1], "temperature": 1e999}',
                     b'{"prompt": [1]} {}', b'{"prompt": ' + b"9" * 5000 + b"}"]:
            status, text, _ = self.server.request("POST", "/v1/completions", body)
            self.assertEqual(status, 400, (body[:40], text))
            self.assertIn("error", json.loads(text))

    def test_good_among_bad(self):
        quiet = self.good()
        before = harness.resident_kib(self.server.process.pid)
        bad = [lambda: self.server.raw(b"\x00" * 3000, silence=0.1),
               lambda: self.server.raw(post({**GOOD, "temperature": -1}, "Connection: close")),
               lambda: self.server.raw(post({**GOOD, "nonsense": 1}, "Connection: close")),
               lambda: self.server.raw(post({"prompt": list(range(300000))}, "Connection: close")),
               lambda: self.server.raw(post(GOOD)[:-9], silence=0.1),
               lambda: self.start_stream(LONGER).close(),
               lambda: self.server.raw(head("POST /v1/completions HTTP/1.1", "Host: a",
                                            "Content-Length: 3", "Connection: close", body=b"\xff{}")),
               lambda: self.server.socket().close()]
        calls = [bad[at % len(bad)] for at in range(100)] + [self.good] * 100
        random.shuffle(calls)
        results = []
        for at in range(0, 200, 40):
            batch = calls[at:at + 40]
            for call, result in zip(batch, harness.in_threads(batch)):
                if call == self.good:
                    results.append(result)
        self.assertEqual(results, [quiet] * 100)
        self.assertTrue(self.server.wait_idle())
        # A sanitizer keeps what was freed for a while.
        bound = 200 if "build/release" in harness.FOVEAL else 1000
        self.assertLess(harness.resident_kib(self.server.process.pid) - before, bound * 1024)


class Impatience(unittest.TestCase):
    def test_slow_loris(self):
        server = harness.Server("--header-timeout-s", "0.7", "--body-timeout-s", "0.7")
        self.addCleanup(server.stop)
        for data in (b"GET /health HTTP/1.1\r\nHost: a\r\n",
                     head("POST /tokenize HTTP/1.1", "Host: a", "Content-Length: 50", body=b"{")):
            with server.socket() as sock:
                sock.sendall(data)
                self.assertEqual(status_of(sock.recv(65536)), 408)

    def test_a_client_that_does_not_read_is_cut_off(self):
        server = harness.Server("--write-timeout-s", "1")
        self.addCleanup(server.stop)
        alone = harness.num_descriptors(server.process.pid)
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            sock.connect(("127.0.0.1", server.port))
            # More than the buffers on the way hold.
            body = {**LONG, "n": 16, "stream": True, "logprobs": 20}
            sock.sendall(post(body))
            answer = sock.recv(99)
            self.assertIn(b"200 OK", answer)
            self.assertTrue(server.wait_until(lambda: harness.num_descriptors(server.process.pid) == alone),
                            "still writing to a client that does not read")
            while part := sock.recv(65536):
                answer += part
        self.assertNotIn(b"[DONE]", answer)
        self.assertTrue(server.wait_idle())


class Keys(unittest.TestCase):
    def test_every_route_but_health_needs_a_key(self):
        server = harness.Server("--api-key", "one", "--api-key", "two", "--cors-origin", "https://a.example")
        self.addCleanup(server.stop)
        self.assertEqual(server.request("GET", "/health")[0], 200)
        for method in ("GET", "POST", "PUT", "HEAD", "OPTIONS"):
            for path in ("/ready", "/version", "/metrics", "/v1/models", "/v1/models/x", "/v1/completions",
                         "/v1/chat/completions", "/v1/responses", "/tokenize", "/detokenize", "/nowhere",
                         "/", "/health/", "/health/../metrics", "/HEALTH", "//health"):
                status, _, headers = server.request(method, path)
                self.assertEqual(status, 401, (method, path))
                self.assertEqual(headers["WWW-Authenticate"], "Bearer")
        for key, status in (("one", 200), ("two", 200), ("on", 401), ("one ", 200), ("three", 401)):
            got = server.request("GET", "/v1/models", headers={"Authorization": "Bearer " + key})[0]
            self.assertEqual(got, status, key)
        status, _, headers = server.request("OPTIONS", "/v1/models", headers={
            "Origin": "https://a.example", "Access-Control-Request-Method": "GET"})
        self.assertEqual((status, headers["Access-Control-Allow-Origin"]), (204, "https://a.example"))


class Tls(unittest.TestCase):
    def test_https(self):
        with tempfile.TemporaryDirectory() as folder:
            certificate, key = folder + "/certificate.pem", folder + "/key.pem"
            made = subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj",
                 "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out",
                 certificate], capture_output=True, check=False)
            if made.returncode != 0:
                self.skipTest("no openssl program")
            files = ("--ssl-certfile", certificate, "--ssl-keyfile", key)
            server = harness.Server(*files)
            self.addCleanup(server.stop)
            impatient = harness.Server(*files, "--header-timeout-s", "0.5")
            self.addCleanup(impatient.stop)
            context = ssl.create_default_context(cafile=certificate)
            connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=context,
                                                     timeout=harness.HANG_S)
            for _ in range(2):
                connection.request("POST", "/v1/completions", json.dumps({**GOOD, "stream": True}),
                                   {"Content-Type": "application/json"})
                response = connection.getresponse()
                self.assertEqual(response.status, 200)
                self.assertTrue(response.read().endswith(b"data: [DONE]\n\n"))
            connection.close()
            self.assertEqual(server.raw(head("GET /health HTTP/1.1", "Host: a"))[:4], b"")  # not plain
            with impatient.socket() as silent:
                self.assertEqual(silent.recv(99), b"")  # no handshake: cut off


class Limits(unittest.TestCase):
    def test_a_full_queue_is_429(self):
        server = harness.Server("--max-concurrent", "1", "--max-queue", "1", *LONGEST_FLAGS)
        self.addCleanup(server.stop)
        with server.socket() as sock:
            sock.sendall(post(LONGEST))  # larger than the queue: alone it may
            self.assertTrue(server.wait_busy())
            status, text, headers = server.request("POST", "/v1/completions", GOOD)
            self.assertEqual(status, 429, text)
            self.assertIsNotNone(headers["Retry-After"])
            self.assertEqual(server.request("GET", "/health")[0], 200)
        self.assertTrue(server.wait_idle())
        self.assertEqual(server.request("POST", "/v1/completions", GOOD)[0], 200)


class Ends(unittest.TestCase):
    def drained(self, body):
        """What is answered while a server ends and this request still runs; None where it ran no longer."""
        server = harness.Server(*LONGEST_FLAGS)
        self.addCleanup(server.stop)
        kept = server.connect()
        self.addCleanup(kept.close)
        kept.request("GET", "/ready")
        self.assertEqual(kept.getresponse().read(), b'{"status": "ready"}')
        with server.socket() as sock:
            sock.sendall(post(body))
            self.assertTrue(server.wait_busy())
            server.signal()
            self.assertTrue(server.wait_until(lambda: "draining" in server.text()))
            try:
                kept.request("GET", "/ready")
                ready = kept.getresponse().status
                status, _, headers = server.request("POST", "/v1/completions", GOOD)
            except (OSError, http.client.HTTPException):
                return None
            answer = b""
            while part := sock.recv(65536):
                answer += part
        return ready, status, headers["Retry-After"], answer, server.process.wait(timeout=harness.HANG_S)

    def test_drain(self):
        # The answers are wanted before its end: seconds of a real model, then up to half a minute of a tiny one.
        for prompts, n, tokens in ((1, 1, 200), (1, 16, 3000), (4, 64, 3000), (8, 128, 3000)):
            got = self.drained({**LONG, "prompt": [IDS] * prompts, "n": n, "max_tokens": tokens, "stream": True})
            if got is not None:
                break
        self.assertIsNotNone(got, "it does not wait for what runs")
        ready, status, retry_after, answer, code = got
        self.assertEqual((ready, status, retry_after, code), (503, 503, "5", 0))
        self.assertTrue(b"data: [DONE]" in answer, answer[-300:])

    def test_what_does_not_finish_is_cancelled(self):
        server = harness.Server("--shutdown-timeout-s", "0.05", *LONGEST_FLAGS)
        self.addCleanup(server.stop)
        with server.socket() as sock:
            sock.sendall(post(LONGEST))
            answer = sock.recv(65536)
            server.signal()
            while part := sock.recv(65536):
                answer += part
        self.assertTrue(b'"code":"cancelled"' in answer, answer[-300:])
        self.assertFalse(b"[DONE]" in answer)
        self.assertEqual(server.process.wait(timeout=harness.HANG_S), 1)

    def test_a_second_signal_ends_at_once(self):
        server = harness.Server("--shutdown-timeout-s", "86400", *LONGEST_FLAGS)
        self.addCleanup(server.stop)
        with server.socket() as sock:
            sock.sendall(post(LONGEST))
            self.assertTrue(server.wait_busy())
            server.signal()
            self.assertTrue(server.wait_until(lambda: "draining" in server.text()))
            server.signal(signal.SIGINT)
            self.assertEqual(server.process.wait(timeout=harness.HANG_S), 1)


if __name__ == "__main__":
    unittest.main()

#!/usr/bin/env python3
"""foveal bench serve against foveal serve, with a tiny random model or the real one that
FOVEAL_TEST_MODEL names, beside a client of another make."""

import contextlib
import http.server
import importlib.util
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import unittest
import unittest.mock

import outside_client
from harness import GOLDEN, MODEL, ROOT, Case, foveal

# That of the server's tests; `harness` is this folder's.
found = importlib.util.spec_from_file_location("server_harness", ROOT / "tests/server/harness.py")
server = importlib.util.module_from_spec(found)
found.loader.exec_module(server)


# Of a server that keeps time, in seconds.
FIRST, GAP, TOKENS = 0.2, 0.02, 25


class Serve(Case):
    model = GOLDEN
    extra = {}

    @classmethod
    def setUpClass(cls):
        if cls is Serve:
            raise unittest.SkipTest("what the others share")
        cls.server = server.Server("--no-kv-enable-block-reuse", model=cls.model)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def serve(self, *words, status=0, url=None):
        done = foveal("bench", "serve", "--url", url or f"http://127.0.0.1:{self.server.port}", "--report_json",
                      self.path / "report.json", "--extra-body", json.dumps(self.extra), *words, status=status)
        return done.stderr if status == 2 else self.read("report.json")

    def data(self, *lengths, output_tokens=6):
        return ("--dataset", self.ids(*lengths, output_tokens=output_tokens))

    def fake(self, answer, certificate=None, models=b'{"data": [{"id": "x"}]}'):
        """The port of a server that lists a model and answers requests by `answer(handler, body)`; with TLS where a
        certificate and its key are given."""
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", str(len(models)))
                self.end_headers()
                self.wfile.write(models)

            def do_POST(self):
                answer(self, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.close_connection = True

            def log_message(self, *_):
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            def handle_error(self, request, client_address):
                # Clients may leave before an answer's end.
                if not isinstance(sys.exc_info()[1], ConnectionError):
                    super().handle_error(request, client_address)

        made = Quiet(("127.0.0.1", 0), Handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            made.socket = context.wrap_socket(made.socket, server_side=True)
        threading.Thread(target=made.serve_forever, daemon=True).start()
        self.addCleanup(made.server_close)
        self.addCleanup(made.shutdown)
        return made.server_port

    def paced(self):
        """Milliseconds to the first token, a token, and in all, of a server that keeps time: seen by `bench serve` and
        by a client of another make."""
        def answer(handler, body):
            start = time.perf_counter()
            handler.send_response(200)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()

            def send(fields):
                event = b"data: " + fields + b"\n\n"
                handler.wfile.write(b"%x\r\n" % len(event) + event + b"\r\n")

            for idx in range(TOKENS):
                time.sleep(max(0, start + FIRST + idx * GAP - time.perf_counter()))
                send(b'{"choices": [{"index": 0, "text": "a", "logprobs": null, "finish_reason": null}]}')
            send(b'{"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": %d}}' % TOKENS)
            send(b"[DONE]")
            handler.wfile.write(b"0\r\n\r\n")

        port = self.fake(answer)
        words = self.data(*[4] * 6, output_tokens=TOKENS)
        report = self.serve(*words, "--concurrency", 3, url=f"http://127.0.0.1:{port}")
        outside = outside_client.run(port, words[1], 3)
        times = report["streaming_metrics"]
        seen = ((times["avg_ttft_ms"], times["avg_tpot_ms"], report["performance"]["avg_request_latency_ms"]),
                (outside["ttft_ms"], outside["tpot_ms"], outside["latency_ms"]))
        print(*seen, file=sys.stderr)
        return seen


class Tiny(Serve):
    # It has no tokenizer, so no text: its tokens are seen by their log probabilities.
    extra = {"logprobs": 0}

    def test_every_request_is_measured(self):
        report = self.serve(*self.data(20, 30, 1, 44), "--request-json", self.path / "requests.json",
                            "--request-csv", self.path / "requests.csv")
        self.assertEqual(report["failures"], [])
        info, times = report["request_info"], report["streaming_metrics"]
        self.assertEqual(info["num_requests"], 4)
        self.assertAlmostEqual(info["avg_output_length"], 6)
        self.assertAlmostEqual(info["avg_input_length"], 95 / 4)
        speed = report["performance"]
        self.assertAlmostEqual(speed["system_output_throughput_tok_s"] * speed["total_latency_ms"] / 1000, 24)
        for one in self.read("requests.json"):
            self.assertLess(0, one["ttft_ms"])
            self.assertAlmostEqual(one["latency_ms"], one["ttft_ms"] + 5 * one["tpot_ms"])
        self.assertLess(times["itl_percentiles"]["minimum"], times["itl_percentiles"]["maximum"])
        self.assertEqual(len((self.path / "requests.csv").read_text().splitlines()), 5)

    def test_requests_come_at_the_rate_asked_for(self):
        words = self.data(*[4] * 30, output_tokens=1)
        report = self.serve(*words, "--request-rate", 60, "--burstiness", 1e9)
        # 29 gaps of 1/60 s and one answer.
        self.assertGreaterEqual(report["performance"]["total_latency_ms"], 29 / 60 * 1000)
        self.assertAlmostEqual(report["load"]["request_rate"], 60)

    def test_as_many_as_asked_for_are_in_flight_and_no_more(self):
        # Each of two waits for the other; a third would be counted.
        both, lock, now, most = threading.Barrier(2, timeout=server.HANG_S), threading.Lock(), 0, 0

        def answer(handler, body):
            nonlocal now, most
            with lock:
                now += 1
                most = max(most, now)
            both.wait()
            with lock:
                now -= 1
            handler.send_response(200)
            handler.end_headers()
            handler.wfile.write(b'data: {"choices": [{"text": "a", "finish_reason": "length"}]}\n\n'
                                b'data: {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}\n\n'
                                b"data: [DONE]\n\n")

        report = self.serve(*self.data(*[3] * 8, output_tokens=1), "--concurrency", 2, "--warmup", 0,
                            url=f"http://127.0.0.1:{self.fake(answer)}")
        self.assertEqual((report["failures"], report["request_info"]["num_requests"], most), ([], 8, 2))
        self.assertLessEqual(report["request_info"]["avg_num_concurrent_requests"], 2)

    def test_goodput_counts_what_keeps_its_promise(self):
        words = self.data(20, 30, 25)
        report = self.serve(*words, "--goodput", "ttft:60000,tpot:60000", "--goodput", "e2el:60000")
        self.assertEqual(report["goodput"]["share"], 1)
        report = self.serve(*words, "--goodput", "e2el:0.001")
        self.assertEqual((report["goodput"]["good_requests"], report["goodput"]["share"]), (0, 0))

    def test_random_prompts_have_the_length_asked_for(self):
        report = self.serve("--tokenizer-model", GOLDEN, "--num-prompts", 3, "--random-input-len", 17,
                            "--random-output-len", 5)
        self.assertEqual(report["request_info"]["avg_input_length"], 17)
        self.assertEqual(report["request_info"]["avg_output_length"], 5)

    def test_each_failure_has_its_reason(self):
        file = self.ids(20, output_tokens=4)
        with file.open("a") as lines:
            lines.write('{"input_ids": [1, 99999999], "output_tokens": 2}\nno\n{"input_ids": [1], "output_tokens": 0}\n'
                        '{"input_ids": [1], "output_tokens": 100000}\n')
        report = self.serve("--dataset", file, "--warmup", 0)
        self.assertEqual(report["request_info"]["num_requests"], 1)
        self.assertEqual(len(report["failures"]), 4)
        for failure in report["failures"]:
            self.assertRegex(failure["error"], r"^\[.*\] got .*; need ")

    @unittest.skipUnless(shutil.which("openssl"), "needs openssl, to make a certificate")
    def test_servers_with_tls_must_be_trusted(self):
        certificate, key = self.path / "cert.pem", self.path / "key.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                        "-addext", "subjectAltName=DNS:localhost", "-out", certificate, "-keyout", key], check=True,
                       capture_output=True)

        def answer(handler, body):
            data = (b'data: {"choices": [{"text": "a", "logprobs": null, "finish_reason": null}]}\n\n'
                    b'data: {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}\n\ndata: [DONE]\n\n')
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data)

        url = f"https://localhost:{self.fake(answer, (certificate, key))}"
        words = self.data(4, 4, output_tokens=1)
        refused = foveal("bench", "serve", "--url", url, *words, "--extra-body", json.dumps(self.extra), status=1)
        self.assertIn("certificate that is trusted", refused.stderr)
        with unittest.mock.patch.dict(os.environ, {"SSL_CERT_FILE": str(certificate)}):
            report = self.serve(*words, url=url)
        self.assertEqual((report["request_info"]["num_requests"], report["failures"]), (2, []))

    def test_servers_that_misbehave_are_named(self):
        answers = {"half": b'data: {"choices": [{"text": "a", "logprobs": null, "finish_reason": null}]}\n\n',
                   "none": b"data: [DONE]\n\n", "junk": b"data: {]\n\n", "fail": b'data: {"error": {"message": "no"}}\n\n'}

        def answer(handler, body):
            if body["prompt"] not in answers:
                return handler.send_error(503, "busy")
            handler.send_response(200)
            handler.end_headers()
            handler.wfile.write(answers[body["prompt"]])

        port = self.fake(answer)
        file = self.write("bad.jsonl", "".join(
            json.dumps({"task_id": word, "prompt": word, "output_tokens": 2}) + "\n" for word in [*answers, "other"]))
        report = self.serve("--dataset", file, "--warmup", 0, url=f"http://127.0.0.1:{port}", status=1)
        errors = {one["id"]: one["error"] for one in report["failures"]}
        for word, part in (("half", r"\[DONE\]"), ("none", "usage"), ("junk", "JSON"), ("fail", "'no'"), ("other", "503")):
            self.assertRegex(errors[word], part)

    def test_interim_answers_are_passed_over(self):
        def answer(handler, body):
            for _ in range(2):
                handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            events = (b'data: {"choices": [{"index": 0, "text": "a", "finish_reason": "length"}]}\n\n'
                      b'data: {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}\n\n'
                      b"data: [DONE]\n\n")
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(events)))
            handler.end_headers()
            handler.wfile.write(events)

        report = self.serve(*self.data(4, output_tokens=1), "--warmup", 0, url=f"http://127.0.0.1:{self.fake(answer)}")
        self.assertEqual((report["failures"], report["request_info"]["num_requests"]), ([], 1))

    def test_answers_without_an_end_are_cut(self):
        piece = b'data: {"choices": [{"text": "%s"}]}\n\n' % (b"x" * (1 << 20))
        answers = {"line": b"data: " + b"x" * (1 << 20), "lines": b"data: " + b"x" * (1 << 20) + b"\n", "text": piece}

        def answer(handler, body):
            handler.send_response(200)
            handler.end_headers()
            for _ in range(70):
                handler.wfile.write(answers[body["prompt"]])

        file = self.write("long.jsonl", "".join(
            json.dumps({"task_id": word, "prompt": word, "output_tokens": 2}) + "\n" for word in answers))
        words = ("--dataset", file, "--warmup", 0)
        report = self.serve(*words, url=f"http://127.0.0.1:{self.fake(answer)}", status=1)
        errors = {one["id"]: one["error"] for one in report["failures"]}
        for word, part in (("line", "16 MiB"), ("lines", "16 MiB"), ("text", "64 MiB")):
            self.assertRegex(errors[word], rf"^\[stream\] got .*; need .*{part}")
        port = self.fake(answer, models=b'{"data": [{"id": "x"}]}' + b" " * (65 << 20))
        refused = foveal("bench", "serve", "--url", f"http://127.0.0.1:{port}", *words, status=1).stderr
        self.assertRegex(refused, r"^\[models\] got .*; need .*64 MiB")

    def test_bytes_without_a_piece_do_not_end_the_wait(self):
        stop = threading.Event()
        self.addCleanup(stop.set)
        pieces = {"comments": b": alive\n\n", "roles": b'data: {"choices": [{"delta": {"role": "assistant"}}]}\n\n'}

        def answer(handler, body):
            handler.send_response(200)
            handler.end_headers()
            # An end after minutes shows a client that waits longer than its --timeout.
            for _ in range(10 * server.HANG_S):
                if stop.wait(0.1):
                    return
                handler.wfile.write(pieces[body["prompt"]])

        file = self.write("alive.jsonl", "".join(
            json.dumps({"task_id": word, "prompt": word, "output_tokens": 2}) + "\n" for word in pieces))
        report = self.serve("--dataset", file, "--warmup", 0, "--timeout", 1.5, "--concurrency", 2, "--model", "x",
                            url=f"http://127.0.0.1:{self.fake(answer)}", status=1)
        # The second one where the machine does nothing at all for so long.
        late = (r"^(\[stream\] got no piece of the answer for 1.5 s; need one within them|\[http\] got .*timeout.*; need .*)$")
        self.assertEqual(len(report["failures"]), 2)
        for one in report["failures"]:
            self.assertRegex(one["error"], late)

    def test_a_handshake_without_an_answer_is_given_up(self):
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        given_up = threading.Event()

        def late():
            # Answers in plain text after minutes; only a client that waits longer than its --timeout sees that.
            with listener.accept()[0] as one:
                given_up.wait(server.HANG_S)
                with contextlib.suppress(OSError):
                    one.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=late, daemon=True).start()
        self.addCleanup(given_up.set)
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        refused = foveal("bench", "serve", "--url", url, *self.data(4), "--timeout", 1, status=1).stderr
        self.assertRegex(refused, r"^\[http\] got .*timeout.*; need ")

    def test_no_time_is_shorter_than_the_server_took(self):
        for first, _, latency in self.paced():
            self.assertGreaterEqual(first, 1000 * FIRST)
            self.assertGreaterEqual(latency, 1000 * (FIRST + (TOKENS - 1) * GAP))

    def test_the_key_is_sent(self):
        locked = server.Server("--api-key", "secret", model=GOLDEN)
        self.addCleanup(locked.stop)
        url = f"http://127.0.0.1:{locked.port}"
        words = self.data(5)
        self.assertEqual(self.serve(*words, "--api-key", "secret", url=url)["failures"], [])
        refused = foveal("bench", "serve", "--url", url, *words, "--model", "x", "--warmup", 0, status=1)
        self.assertIn("401", refused.stderr)

    def test_odd_requests_are_refused(self):
        file = self.ids(4, output_tokens=2)
        url = f"http://127.0.0.1:{self.server.port}"
        for words in (["--dataset", file], ["--url", "nowhere", "--dataset", file], ["--url", url],
                      ["--url", url, "--dataset", file, "--concurrency", 0],
                      ["--url", url, "--dataset", file, "--goodput", "itl:3"],
                      ["--url", url, "--dataset", file, "--extra-body", "[]"],
                      ["--url", url, "--dataset", file, "--report_json", file]):
            self.refused("bench", "serve", *words)
        with socket.socket() as deaf:  # a port that nobody else can listen at
            deaf.bind(("127.0.0.1", 0))
            nobody = foveal("bench", "serve", "--url", f"http://127.0.0.1:{deaf.getsockname()[1]}", "--dataset", file,
                            status=1).stderr
        self.assertRegex(nobody, r"^\[http\] got .*; need ")


# Times hold on a machine that does nothing else.
IDLE = unittest.skipUnless(os.environ.get("FOVEAL_TEST_TIMES"), "needs an idle machine and FOVEAL_TEST_TIMES=1")


@unittest.skipUnless(MODEL, "needs FOVEAL_TEST_MODEL")
class Real(Serve):
    model = MODEL

    @IDLE
    def test_times_are_those_of_a_server_that_keeps_time(self):
        for seen in self.paced():
            for value, truth in zip(seen, (FIRST, GAP, FIRST + (TOKENS - 1) * GAP)):
                self.assertAlmostEqual(value / (1000 * truth), 1, delta=0.03)

    @IDLE
    def test_a_client_of_another_make_sees_the_same(self):
        words = self.data(*[200] * 6, output_tokens=40)
        # At the same time: both see the same server, whatever else the machine does.
        report, got = server.in_threads([
            lambda: self.serve(*words, "--concurrency", 1, "--warmup", 0),
            lambda: outside_client.run(self.server.port, words[1], 1)])
        # Sums over all requests: which of two prompts is read first, and so what lies in the first token's
        # time and what in the next ones', is the server's choice.
        for ours, theirs in ((report["performance"]["avg_request_latency_ms"], got["latency_ms"]),
                             (report["performance"]["system_output_throughput_tok_s"], got["output_tok_s"])):
            print(f"foveal {ours:.4g}, outside {theirs:.4g}, {100 * (ours / theirs - 1):+.2f} %", file=sys.stderr)
            self.assertAlmostEqual(ours / theirs, 1, delta=0.03)

    def test_eval_against_a_server_has_the_engines_answers(self):
        words = ("--lengths", 512, "--depths", 2, "--output-dir")
        url = f"http://127.0.0.1:{self.server.port}"
        foveal("eval", "--model", MODEL, "--device", "cpu", "niah", *words, self.path / "here")
        foveal("eval", "--model", MODEL, "--against", url, "--baseline", url, "niah", *words, self.path / "there")
        here, there = self.read("here/summary.json"), self.read("there/summary.json")
        self.assertEqual(here["dense"]["score"], there["server"]["score"])
        self.assertEqual(there["difference"]["score"]["value"], 0)
        self.assertNotIn("sparsity", there["server"])

        def answers(folder, arm):
            lines = map(json.loads, (self.path / folder / "samples.jsonl").read_text().splitlines())
            return {line["id"]: line["arms"][arm]["answers"] for line in lines}
        self.assertEqual(answers("here", "dense"), answers("there", "server"))

    def test_eval_against_a_server_needs_answers_only(self):
        url = f"http://127.0.0.1:{self.server.port}"
        for words in (["kl", "--file", self.ids(20), "--against", url], ["niah", "--against", "nowhere"],
                      ["niah", "--baseline", url],
                      ["niah", "--against", url, "--sparse-attention-config", "{algorithm: rocket}"]):
            self.refused("eval", "--model", MODEL, *words, "--output-dir", self.path / "x")


if __name__ == "__main__":
    unittest.main(verbosity=2)

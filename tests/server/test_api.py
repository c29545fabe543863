"""What OpenAI's clients rely on, against a real model (FOVEAL_TEST_MODEL)."""

import json
import unittest

import harness

PROMPT = "The capital of France is"
CHAT = [{"role": "user", "content": "Say hello."}]


@unittest.skipUnless(harness.MODEL, "FOVEAL_TEST_MODEL is not set")
class Api(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = harness.Server("--served-model-name", "small")

    @classmethod
    def tearDownClass(cls):
        assert cls.server.wait_idle(), cls.server.text()
        cls.server.stop()

    def complete(self, **fields):
        status, body = self.server.post("/v1/completions", {"temperature": 0, "max_tokens": 6, **fields})
        self.assertEqual(status, 200, body)
        return body

    def chat(self, **fields):
        status, body = self.server.post(
            "/v1/chat/completions", {"messages": CHAT, "temperature": 0, "max_tokens": 6, **fields})
        self.assertEqual(status, 200, body)
        return body

    def refused(self, path, **fields):
        status, body = self.server.post(path, fields)
        self.assertEqual(status, 400, body)
        return body["error"]["param"]

    def test_completion(self):
        body = self.complete(prompt=PROMPT, model="small", user="me", metadata={"a": "b"})
        self.assertTrue(body["choices"][0]["text"].startswith(" Paris"))
        self.assertEqual(body["choices"][0]["finish_reason"], "length")
        usage = body["usage"]
        self.assertEqual(usage["completion_tokens"], 6)
        self.assertEqual(usage["total_tokens"], usage["prompt_tokens"] + 6)
        self.assertIn("cached_tokens", usage["prompt_tokens_details"])
        sparsity = usage["sparsity"]
        self.assertEqual((sparsity["method"], sparsity["prefill"], sparsity["decode"]), ("dense", 0, 0))
        self.assertEqual(sparsity["kept_tokens"], sparsity["prompt_tokens"])

    def test_prompt_forms_agree(self):
        ids = self.server.post("/tokenize", {"prompt": PROMPT})[1]["tokens"]
        text = self.complete(prompt=PROMPT)["choices"][0]["text"]
        both = self.complete(prompt=[ids, ids])["choices"]
        self.assertEqual([choice["text"] for choice in both], [text, text])
        self.assertEqual([choice["index"] for choice in both], [0, 1])
        self.assertEqual(self.complete(prompt=ids)["choices"][0]["text"], text)
        self.assertEqual(self.server.post("/detokenize", {"tokens": ids})[1]["prompt"], PROMPT)

    def test_stream_adds_up(self):
        whole = self.complete(prompt=[PROMPT, "Once"], n=2, temperature=1, seed=5, max_tokens=9)
        events = self.server.events("/v1/completions", {
            "prompt": [PROMPT, "Once"], "n": 2, "temperature": 1, "seed": 5, "max_tokens": 9,
            "stream": True, "stream_options": {"include_usage": True}})
        self.assertEqual(events[-1], "[DONE]")
        texts, reasons = {}, {}
        for event in map(json.loads, events[:-2]):
            self.assertIsNone(event["usage"])
            for choice in event["choices"]:
                texts[choice["index"]] = texts.get(choice["index"], "") + choice["text"]
                reasons[choice["index"]] = choice["finish_reason"] or reasons.get(choice["index"])
        self.assertEqual([texts[idx] for idx in range(4)],
                         [choice["text"] for choice in whole["choices"]])
        self.assertEqual([reasons[idx] for idx in range(4)],
                         [choice["finish_reason"] for choice in whole["choices"]])
        last = json.loads(events[-2])
        self.assertEqual(last["choices"], [])
        for name in ("prompt_tokens", "completion_tokens"):
            self.assertEqual(last["usage"][name], whole["usage"][name])

    def test_echo_logprobs(self):
        """What lm-eval's local-completions reads."""
        body = self.complete(prompt=[PROMPT], max_tokens=1, echo=True, logprobs=1)
        choice = body["choices"][0]
        rows = choice["logprobs"]
        count = body["usage"]["prompt_tokens"]
        self.assertTrue(choice["text"].startswith(PROMPT))
        for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
            self.assertEqual(len(rows[name]), count + 1)
        self.assertIsNone(rows["token_logprobs"][0])
        self.assertIsNone(rows["top_logprobs"][0])
        for at in range(1, count + 1):
            best = max(rows["top_logprobs"][at].values())
            self.assertLessEqual(rows["token_logprobs"][at], best)
            self.assertIn(rows["tokens"][at], rows["top_logprobs"][at])
        self.assertEqual(choice["text"][rows["text_offset"][2]:rows["text_offset"][3]], rows["tokens"][2])
        none = self.complete(prompt=PROMPT, max_tokens=0, echo=True, logprobs=0)
        self.assertEqual(none["choices"][0]["text"], PROMPT)
        self.assertEqual(none["choices"][0]["logprobs"]["token_logprobs"],
                         rows["token_logprobs"][:count])

    def test_stop(self):
        free = self.complete(prompt=PROMPT, max_tokens=12)["choices"][0]["text"]
        stop = free[4:7]
        body = self.complete(prompt=PROMPT, max_tokens=12, stop=[stop])
        self.assertEqual(body["choices"][0]["text"], free[:free.index(stop)])
        self.assertEqual(body["choices"][0]["finish_reason"], "stop")

    def test_seed(self):
        draw = [self.complete(prompt="Once", temperature=1, seed=seed, max_tokens=12)["choices"][0]["text"]
                for seed in (1, 1, 2)]
        self.assertEqual(draw[0], draw[1])
        self.assertNotEqual(draw[0], draw[2])

    def test_chat(self):
        body = self.chat(logprobs=True, top_logprobs=2, n=2)
        self.assertEqual(len(body["choices"]), 2)
        message = body["choices"][0]["message"]
        self.assertEqual(message["role"], "assistant")
        rows = body["choices"][0]["logprobs"]["content"]
        self.assertEqual(b"".join(bytes(row["bytes"]) for row in rows).decode(), message["content"])
        self.assertEqual(len(rows[0]["top_logprobs"]), 2)
        parts = self.chat(messages=[{"role": "user", "content": [
            {"type": "text", "text": "Say "}, {"type": "text", "text": "hello."}]}])
        self.assertEqual(parts["choices"][0]["message"]["content"], message["content"])
        self.assertEqual(self.chat(max_tokens=None, max_completion_tokens=6)["choices"][0]["message"],
                         message)

    def test_chat_stream(self):
        whole = self.chat()["choices"][0]["message"]["content"]
        events = self.server.events("/v1/chat/completions", {
            "messages": CHAT, "temperature": 0, "max_tokens": 6, "stream": True})
        chunks = [json.loads(event)["choices"][0] for event in events[:-1]]
        self.assertEqual(chunks[0]["delta"], {"role": "assistant", "content": ""})
        self.assertEqual("".join(chunk["delta"].get("content", "") for chunk in chunks), whole)
        self.assertEqual(chunks[-1]["finish_reason"], "length")

    def test_responses(self):
        status, body = self.server.post("/v1/responses", {
            "input": "Say hello.", "temperature": 0, "max_output_tokens": 6})
        self.assertEqual(status, 200, body)
        text = body["output"][0]["content"][0]["text"]
        self.assertEqual(text, self.chat()["choices"][0]["message"]["content"])
        self.assertEqual(body["status"], "incomplete")
        events = [json.loads(event) for event in self.server.events("/v1/responses", {
            "input": [{"role": "user", "content": [{"type": "input_text", "text": "Say hello."}]}],
            "temperature": 0, "max_output_tokens": 6, "stream": True})]
        self.assertEqual(events[0]["type"], "response.created")
        self.assertEqual(events[-1]["type"], "response.incomplete")
        self.assertEqual([event["sequence_number"] for event in events], list(range(len(events))))
        self.assertEqual(text, "".join(event["delta"] for event in events
                                       if event["type"] == "response.output_text.delta"))

    def test_guided(self):
        choices = ["yes", "no"]
        body = self.complete(prompt="Is the sky blue?", guided_choice=choices)
        self.assertIn(body["choices"][0]["text"], choices)
        self.assertRegex(self.complete(prompt="A year:", guided_regex="[0-9]{4}")["choices"][0]["text"],
                         "^[0-9]{4}$")
        schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"],
                  "additionalProperties": False}
        form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
        content = self.chat(response_format=form, max_tokens=40)["choices"][0]["message"]["content"]
        self.assertIsInstance(json.loads(content)["ok"], bool)
        for field, value in (("guided_regex", "("), ("guided_json", {"type": "nothing"}), ("guided_grammar", "start: other"),
                             ("guided_choice", [""])):
            status, answer = self.server.post("/v1/completions", {
                "prompt": "a", "max_tokens": 2, field: value})
            self.assertEqual(status, 400, (field, value, answer))
        self.assertEqual(self.refused("/v1/completions", prompt="a", guided_regex="a", guided_json="{}"),
                         "guided_regex")

    def test_tools(self):
        weather = {"type": "function", "function": {
            "name": "get_weather", "parameters": {
                "type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"],
                "additionalProperties": False}}}
        named = {"type": "function", "function": {"name": "get_weather"}}
        for choice in ("required", named):
            body = self.chat(tools=[weather], tool_choice=choice, max_tokens=60)["choices"][0]
            self.assertEqual(body["finish_reason"], "tool_calls")
            call = body["message"]["tool_calls"][0]["function"]
            self.assertEqual(call["name"], "get_weather")
            self.assertIn(json.loads(call["arguments"])["city"], ("Paris", "Rome"))
        # A stream says the same.
        events = [json.loads(event) for event in self.server.events("/v1/chat/completions", {
            "messages": CHAT, "tools": [weather], "tool_choice": "required", "max_tokens": 60, "temperature": 0,
            "stream": True})[:-1]]
        calls = [call for event in events for choice in event["choices"]
                 for call in choice["delta"].get("tool_calls", [])]
        self.assertEqual(calls[0]["function"], call)
        self.assertEqual([choice["finish_reason"] for event in events for choice in event["choices"]][-1],
                         "tool_calls")
        # With nothing called the answer is content, and the tools were read.
        body = self.chat(tools=[weather])
        self.assertIn(body["choices"][0]["finish_reason"], ("stop", "length"))
        self.assertTrue(body["choices"][0]["message"]["content"])
        self.assertGreater(body["usage"]["prompt_tokens"], self.chat()["usage"]["prompt_tokens"] + 40)
        self.assertEqual(self.chat(tools=[weather], tool_choice="none")["usage"]["prompt_tokens"],
                         self.chat()["usage"]["prompt_tokens"])
        chat = "/v1/chat/completions"
        self.assertEqual(self.refused(chat, messages=CHAT, tool_choice="required"), "tool_choice")
        self.assertEqual(self.refused(chat, messages=CHAT, tools=[weather], tool_choice="perhaps"), "tool_choice")
        self.assertEqual(self.refused(chat, messages=CHAT, tools=[weather], tool_choice={
            "type": "function", "function": {"name": "other"}}), "tool_choice")

    def test_refusals_name_the_field(self):
        completions, chat = "/v1/completions", "/v1/chat/completions"
        self.assertEqual(self.refused(completions, prompt="a", suffix="b"), "suffix")
        self.assertEqual(self.refused(completions, prompt="a", best_of=3), "best_of")
        self.assertEqual(self.refused(completions, prompt="a", tempreature=1), "tempreature")
        self.assertEqual(self.refused(completions, prompt="a", n=1000), "n")
        self.assertEqual(self.refused(completions, prompt="a", min_tokens=99), "min_tokens")
        self.assertEqual(self.refused(completions, prompt=[[1, 10**8]]), "prompt")
        self.assertEqual(self.refused(completions, prompt="a", stop=["x"] * 99), "stop")
        self.assertEqual(self.refused(completions), "prompt")
        self.assertEqual(self.refused(chat, messages=[]), "messages")
        self.assertEqual(self.refused(chat, messages=CHAT, top_logprobs=2), "top_logprobs")
        self.assertEqual(self.refused(chat, messages=CHAT, reasoning_effort="low"), "reasoning_effort")
        self.assertEqual(self.refused(chat, messages=[{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}]}]),
            "messages.0.content.0.type")
        self.assertEqual(self.refused(completions, prompt="a", sparse_attention={
            "threshold_scale_factor": {"prefil": 1}}), "sparse_attention.threshold_scale_factor.prefil")
        self.assertEqual(self.server.post(completions, {"prompt": "a", "model": "other"})[0], 404)

    def test_context_length(self):
        status, body = self.server.post("/v1/completions", {"prompt": "word " * 20000})
        self.assertEqual((status, body["error"]["code"]), (400, "context_length_exceeded"))

    def test_prefix_reuse_is_reported(self):
        prompt = "Salt and pepper. " * 30
        self.complete(prompt=prompt, max_tokens=1)
        again = self.complete(prompt=prompt, max_tokens=1)["usage"]["prompt_tokens_details"]
        self.assertGreater(again["cached_tokens"], 64)
        other = self.complete(prompt=prompt, max_tokens=1, cache_salt="other")["usage"]
        self.assertEqual(other["prompt_tokens_details"]["cached_tokens"], 0)


@unittest.skipUnless(harness.MODEL, "FOVEAL_TEST_MODEL is not set")
class Sparse(unittest.TestCase):
    def test_sparse_attention_of_a_request(self):
        server = harness.Server(
            "--set", "sparse_attention_config={algorithm: skip_softmax, "
            "threshold_scale_factor: {prefill: 300.0, decode: 300.0}}")
        self.addCleanup(server.stop)
        body = {"prompt": "The quick brown fox jumps over the lazy dog. " * 60, "max_tokens": 4,
                "temperature": 0}

        def sparsity(**fields):
            status, answer = server.post("/v1/completions", {**body, **fields})
            self.assertEqual(status, 200, answer)
            return answer["usage"]["sparsity"]

        default = sparsity()
        self.assertEqual(default["method"], "skip_softmax")
        self.assertGreater(default["prefill"], 0)
        off = sparsity(sparse_attention={"off": True})
        self.assertEqual((off["prefill"], off["decode"]), (0, 0))
        milder = sparsity(sparse_attention={"threshold_scale_factor": {"prefill": 5.0}})
        self.assertLess(milder["prefill"], default["prefill"])


if __name__ == "__main__":
    unittest.main()

#!/usr/bin/env python3
"""llama.cpp held at a depth and timed on demand, as bench_model holds Foveal: run by compare_llama.py
under the Python that has llama_cpp.

    llama_worker.py serve MODEL IDS_FILE THREADS      prepare D / prefill N FA / decode N FA, by lines
    llama_worker.py first MODEL PROMPT THREADS FA     one cold start: load, read the prompt, first token
    llama_worker.py f16 MODEL OUT                     an F16 copy of a model

The work of one timing is llama-bench's: llama_decode in batches of 2,048 (micro-batches of 512) or of one
token, logits of the last one, then the cache cut back to the depth. Flash attention on and off are two
contexts of one model."""

import ctypes
import json
import sys
import time

import llama_cpp.llama_cpp as llama
import numpy as np

BATCH = 2048
MICRO_BATCH = 512


@llama.llama_log_callback
def quiet(level, text, user_data):
    pass


def load(path):
    llama.llama_log_set(quiet, None)
    llama.llama_backend_init()
    model = llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())
    if not model:
        sys.exit(f"[llama] got no model from '{path}'; need a readable GGUF file")
    return model


def make_context(model, threads, flash, length):
    params = llama.llama_context_default_params()
    params.n_ctx = length
    params.n_batch = BATCH
    params.n_ubatch = MICRO_BATCH
    params.n_threads = threads
    params.n_threads_batch = threads
    params.flash_attn_type = (llama.LLAMA_FLASH_ATTN_TYPE_ENABLED if flash
                              else llama.LLAMA_FLASH_ATTN_TYPE_DISABLED)
    context = llama.llama_init_from_model(model, params)
    if not context:
        sys.exit(f"[llama] got no context of {length} tokens; need one")
    return context


class Context:
    def __init__(self, model, threads, flash, length):
        self.vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
        self.context = make_context(model, threads, flash, length)
        self.memory = llama.llama_get_memory(self.context)
        self.depth = 0

    def feed(self, tokens, batch=BATCH):
        for begin in range(0, len(tokens), batch):
            part = tokens[begin:begin + batch]
            array = (llama.llama_token * len(part))(*part)
            status = llama.llama_decode(self.context, llama.llama_batch_get_one(array, len(part)))
            if status != 0:
                sys.exit(f"[llama] got status {status} from llama_decode; need 0")
        llama.llama_synchronize(self.context)

    def best(self):
        logits = llama.llama_get_logits_ith(self.context, -1)
        return int(np.ctypeslib.as_array(logits, (self.vocab,)).argmax())

    def cut(self, depth):
        if not llama.llama_memory_seq_rm(self.memory, 0, depth, -1):
            sys.exit("[llama] got no cut of the cache; need a model whose cache can be cut")

    def prepare(self, tokens):
        self.cut(0)
        self.feed(tokens)
        self.depth = len(tokens)

    def timed(self, tokens, batch):
        begin = time.perf_counter()
        self.feed(tokens, batch)
        ms = 1e3 * (time.perf_counter() - begin)
        result = {"ms": ms, "rows": len(tokens), "tokens": [self.best()]}
        self.cut(self.depth)
        return result


def serve(path, ids_file, threads):
    with open(ids_file) as file:
        ids = json.load(file)
    model = load(path)
    longest = max(llama.llama_model_n_ctx_train(model), 1024)
    contexts = [Context(model, threads, flash, longest) for flash in (False, True)]
    for line in sys.stdin:
        name, count, *flash = line.split()
        count = int(count)
        text = (ids * (1 + 2 * longest // len(ids)))[:2 * longest]
        if name == "prepare":
            for context in contexts:
                context.prepare(text[:count])
            result = {"depth": count}
        else:
            context = contexts[int(flash[0])]
            # As many rows as Foveal computes: it keeps one position for the answer.
            count = min(count, longest - 1 - context.depth)
            part = text[context.depth:context.depth + count]
            result = context.timed(part, 1 if name == "decode" else BATCH)
        print(json.dumps(result), flush=True)


def first(path, prompt, threads, flash):
    """Milliseconds from before the model file is opened to the first token's text; the interpreter's own
    start is left out, which favours llama.cpp."""
    begin = time.perf_counter()
    model = load(path)
    context = Context(model, threads, flash, 512)
    vocab = llama.llama_model_get_vocab(model)
    text = prompt.encode()
    buffer = (llama.llama_token * 256)()
    count = llama.llama_tokenize(vocab, text, len(text), buffer, 256, True, True)
    context.feed(list(buffer[:count]))
    token = context.best()
    piece = ctypes.create_string_buffer(64)
    llama.llama_token_to_piece(vocab, token, piece, 64, 0, True)
    print(json.dumps({"ms": 1e3 * (time.perf_counter() - begin), "tokens": [token]}))


def make_f16(path, out):
    llama.llama_log_set(quiet, None)
    params = llama.llama_model_quantize_default_params()
    params.ftype = llama.LLAMA_FTYPE_MOSTLY_F16
    params.allow_requantize = True
    status = llama.llama_model_quantize(path.encode(), out.encode(), ctypes.byref(params))
    if status != 0:
        sys.exit(f"[llama] got status {status} from llama_model_quantize; need 0")


def main():
    command, *args = sys.argv[1:]
    if command == "serve":
        serve(args[0], args[1], int(args[2]))
    elif command == "first":
        first(args[0], args[1], int(args[2]), bool(int(args[3])))
    elif command == "f16":
        make_f16(args[0], args[1])
    else:
        sys.exit(f"[llama_worker] got '{command}'; need serve, first or f16")


if __name__ == "__main__":
    main()

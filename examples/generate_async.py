"""Many requests at once in an event loop: generate_async.py MODEL"""

import asyncio
import sys

from foveal import LLM, SamplingParams


async def answer(llm, number):
    params = SamplingParams(max_tokens=16, temperature=0.8, seed=number)
    async for output in llm.generate_async("Once upon a time", params, streaming=True):
        if output.finished:
            print(number, output.outputs[0].text, output.timings.ttft_ms)


async def main(model):
    with LLM(model=model) as llm:
        await asyncio.gather(*(answer(llm, number) for number in range(8)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))

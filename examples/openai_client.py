"""pip install openai; foveal serve -m <path> &  python examples/openai_client.py"""

import openai

client = openai.OpenAI(base_url="http://localhost:8000/v1", api_key="none")
model = client.models.list().data[0].id

stream = client.chat.completions.create(
    model=model,
    messages=[{"role": "user", "content": "Why is the sky blue?"}],
    max_tokens=64,
    temperature=0,
    stream=True,
    stream_options={"include_usage": True},
    extra_body={"sparse_attention": {"off": True}},
)
for chunk in stream:
    for choice in chunk.choices:
        print(choice.delta.content or "", end="", flush=True)
    if chunk.usage:
        print("\n", chunk.usage.model_dump())

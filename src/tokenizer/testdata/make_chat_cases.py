#!/usr/bin/env python3
"""Writes chat_cases.json: templates in the styles of released models, and what jinja2 renders with
the settings that transformers uses. Needs the package jinja2."""

import json
import pathlib

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


ENV = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
ENV.filters["tojson"] = tojson
ENV.globals["raise_exception"] = raise_exception

CHATML = """{%- for message in messages %}
    {%- if loop.first and message.role != 'system' %}
        {{- '<|im_start|>system\\nBe brief.<|im_end|>\\n' }}
    {%- endif %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""

LLAMA3 = """{{ bos_token }}
{%- set ns = namespace(system='You are helpful.', start=0) %}
{%- if messages[0]['role'] == 'system' %}
    {%- set ns.system = messages[0].content | trim %}
    {%- set ns.start = 1 %}
{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' ~ ns.system ~ '<|eot_id|>' }}
{%- for m in messages[ns.start:] %}
    {%- if m.role not in ['user', 'assistant'] %}
        {{- raise_exception('Role ' + m.role + ' is not for this model') }}
    {%- endif %}
    {%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif %}
    {{- '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' }}
    {%- if m.content is string %}
        {{- m.content | trim }}
    {%- else %}
        {%- for part in m.content if part.type == 'text' %}{{ part.text | trim }}{% endfor %}
    {%- endif %}
    {{- '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}"""

GEMMA = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\\n\\n' %}
{% set rest = messages[1:] %}{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}
{% for message in rest %}
    {% set role = 'model' if message['role'] == 'assistant' else message['role'] %}
    {{ '<start_of_turn>' + role + '\\n' + (first if loop.first else '') }}
    {%- if message['content'] is iterable and message['content'] is not string %}
        {%- for item in message['content'] %}
            {%- if item['type'] == 'image' -%}{{ '<start_of_image>' }}
            {%- elif item['type'] == 'text' -%}{{ item['text'] | trim }}{%- endif -%}
        {%- endfor %}
    {%- else %}
        {{- message['content'] | trim }}
    {%- endif %}
    {{- '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""

TOOLS = """{%- macro call(c) %}
    {%- set f = c.function if c.function is defined else c %}
    {{- '\\n<tool_call>\\n{"name": "' ~ f.name ~ '", "arguments": ' }}
    {{- f.arguments if f.arguments is string else f.arguments | tojson }}
    {{- '}\\n</tool_call>' }}
{%- endmacro %}
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{ messages[0].content + '\\n\\n' }}{% endif %}
    {{- '# Tools\\n<tools>' }}
    {%- for tool in tools %}
        {{- '\\n' ~ (tool | tojson) }}
    {%- endfor %}
    {{- '\\n</tools><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(last=messages|length - 1, multi=true) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi and message.role == 'user' and not (message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- elif message.role == 'assistant' %}
        {%- set content = message.content if message.content is string else '' %}
        {%- set thought = '' %}
        {%- if '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>' + message.role + '\\n' }}
        {%- if loop.index0 > ns.last and thought %}{{ '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' }}{% endif %}
        {{- content }}
        {%- for c in message.tool_calls or [] %}{{ call(c) }}{% endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.first or loop.previtem.role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}
        {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
        {%- if loop.last or loop.nextitem.role != 'tool' %}{{ '<|im_end|>\\n' }}{% endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{%- endif %}
"""

COMPOSED = "{% for m in messages %}{{ '<|' + m['role'] + '|>' + '\\n' + m['content'] + '<|end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"

BRACKETS = """{%- set system = messages[0].content if messages[0].role == 'system' else none %}
{{- bos_token }}
{%- for m in messages %}
{%- if m.role == 'system' %}{% continue %}{% endif %}
{%- if m.role == 'user' %}
{{- '[INST] ' ~ (system ~ '\\n\\n' if system is not none and loop.last else '') ~ m.content ~ ' [/INST]' }}
{%- else %}
{% generation %}
{{- ' ' ~ m.content | trim ~ eos_token }}
{% endgeneration %}
{%- endif %}
{%- endfor %}
"""

PYTHON = """{% for m in messages %}
{{ loop.index }}/{{ messages | length }} {{ m }} {{ m.get('name', 'nobody') }} {{ m.content.upper().replace('A', '4').strip('! ') }}
{% endfor %}
{{ none }} {{ true }} {{ 1.0 }} {{ 1e16 }} {{ 0.00001 }} {{ 7 // 2 }} {{ 7 / 2 }} {{ [1, 'a', "it's"] }} {{ {'k': [true, none]} }}
{{ data | tojson }}
{{ data | tojson(indent=2) }}
{% for k, v in data.items() %}{{ k }}={{ v }};{% endfor %}
{{ 'x' ~ 1 ~ none ~ true }} {{ '%s-%d' | format('a', 3) }} {{ ['a', 'b'] | join('+') }} {{ data | dictsort | length }}
{{ messages | map(attribute='role') | list }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }}
  {% if true %}
  indented
  {% endif %}
{{ 'a,b,c'.split(',')[-1] }} {{ 'abc'[::-1] }} {{ "tab\\tquote\\"" }} {{ data.missing is defined }} {{ data.missing }}|
{{ 'one two'.title() }} {{ 'abc'.find('c') }} {{ ['x'] + ['y'] }} {{ 'ab' * 2 }} {{ range(3) | list }} {{ 'b' in 'abc' }}
"""

HELLO = [{"role": "user", "content": "Hi there"}]
TALK = [
    {"role": "system", "content": "  Speak like a pirate. "},
    {"role": "user", "content": "Où est le trésor ? 🏴‍☠️"},
    {"role": "assistant", "content": "Arr!\n"},
    {"role": "user", "content": "  <b>Thanks</b> & \"bye\"  "},
]
PARTS = [{"role": "user", "content": [{"type": "text", "text": " one "}, {"type": "image"}, {"type": "text", "text": "two"}]}]
WRONG = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Größe <of> the \"sky\" & 'sea'",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer", "default": 3}}, "required": ["city"]},
    },
}
CALLS = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "Weather in Rome and Oslo?"},
    {
        "role": "assistant",
        "content": "<think>\ntwo calls\n</think>\n\nLet me see.",
        "tool_calls": [
            {"type": "function", "function": {"name": "weather", "arguments": {"city": "Rome", "days": 1.5, "more": [None, True, {}], "none": []}}},
            {"name": "weather", "arguments": "{\"city\": \"Oslo\"}"},
        ],
    },
    {"role": "tool", "content": "{\"t\": 20}"},
    {"role": "tool", "content": "<cold>"},
    {"role": "assistant", "content": None},
]
DATA = {"z": 1, "a": "é\u2028<&>'\"\\\n\x01", "f": [1.0, 1e-7, 123456789012345.0, 1e22, -0.5], "n": {"e": {}, "l": []}}

RUNS = [
    ("chatml", CHATML, HELLO, True, {}),
    ("chatml", CHATML, TALK, False, {}),
    ("llama3", LLAMA3, HELLO, True, {}),
    ("llama3", LLAMA3, TALK, True, {}),
    ("llama3", LLAMA3, PARTS, False, {}),
    ("llama3", LLAMA3, WRONG, True, {}),
    ("gemma", GEMMA, TALK, True, {}),
    ("gemma", GEMMA, PARTS, False, {}),
    ("tools", TOOLS, CALLS, True, {"tools": [TOOL, TOOL]}),
    ("tools", TOOLS, CALLS[:2], True, {"enable_thinking": False}),
    ("tools", TOOLS, TALK, False, {"tools": []}),
    ("composed", COMPOSED, TALK, True, {}),
    ("composed", COMPOSED, HELLO, False, {}),
    ("brackets", BRACKETS, TALK, True, {}),
    ("python", PYTHON, TALK, True, {"data": DATA}),
]


def main():
    templates, cases = {}, []
    for name, template, messages, prompt, extra in RUNS:
        templates[name] = template
        case = {"template": name, "messages": messages, "add_generation_prompt": prompt, "extra": extra}
        variables = {"tools": None, "documents": None, "bos_token": "<bos>", "eos_token": "<eos>", **extra}
        try:
            case["text"] = ENV.from_string(template).render(messages=messages, add_generation_prompt=prompt, **variables)
        except jinja2.exceptions.TemplateError as error:
            case["error"] = str(error)
        cases.append(case)
    out = {"templates": templates, "cases": cases}
    path = pathlib.Path(__file__).with_name("chat_cases.json")
    path.write_text(json.dumps(out, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()

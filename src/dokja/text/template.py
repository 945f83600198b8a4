"""The chat contract as a Jinja template, for transformers, vLLM and others: the same bytes as `chat.render`.

`enable_thinking` (default true) chooses the mode. A runtime which tokenizes the rendered string reads a marker typed by
a user as a marker; dokja encodes segments and does not.
"""

from __future__ import annotations

import hashlib

JINJA = """\
{%- set thinking = enable_thinking if enable_thinking is defined else true -%}
{%- set ns = namespace(last_user=-1) -%}
{%- for message in messages -%}
  {%- if message['role'] == 'user' -%}{%- set ns.last_user = loop.index0 -%}{%- endif -%}
{%- endfor -%}
{{- '<|bos|>' -}}
{%- if tools and not (messages and messages[0]['role'] == 'system') -%}
  {{- '<|system|># Tools' -}}
  {%- for tool in tools -%}{{- '\\n' + (tool | tojson) -}}{%- endfor -%}
  {{- '<|end|>' -}}
{%- endif -%}
{%- for message in messages -%}
  {%- set part = namespace(images='', text='') -%}
  {%- if message['content'] is string -%}
    {%- set part.text = message['content'] -%}
  {%- else -%}
    {%- for item in message['content'] or [] -%}
      {%- if item['type'] == 'text' -%}
        {%- set part.text = part.text + ('\\n' if part.text and item['text'] else '') + item['text'] -%}
      {%- elif item['type'] in ['image', 'image_url'] and message['role'] in ['user', 'tool'] -%}
        {%- set part.images = part.images + '<|image|>' -%}
      {%- else -%}
        {{- raise_exception('Only text can be shown, and images of a user or a tool: remove other parts.') -}}
      {%- endif -%}
    {%- endfor -%}
  {%- endif -%}
  {%- set content = part.text -%}
  {%- if message['role'] == 'assistant' -%}
    {{- '<|assistant|><think>' -}}
    {%- if thinking and loop.index0 > ns.last_user -%}
      {{- message['reasoning_content'] or message['reasoning'] or '' -}}
    {%- endif -%}
    {{- '</think>' + content -}}
    {%- for item in message['tool_calls'] or [] -%}
      {%- set call = item['function'] or item -%}
      {{- '<tool_call>{"name": ' + (call['name'] | tojson) + ', "arguments": ' -}}
      {{- call['arguments'] if call['arguments'] is string else (call['arguments'] | tojson) -}}
      {{- '}</tool_call>' -}}
    {%- endfor -%}
  {%- elif message['role'] in ['system', 'user', 'tool'] -%}
    {{- '<|' + message['role'] + '|>' + part.images + content -}}
    {%- if tools and loop.first and message['role'] == 'system' -%}
      {{- ('\\n\\n' if content else '') + '# Tools' -}}
      {%- for tool in tools -%}{{- '\\n' + (tool | tojson) -}}{%- endfor -%}
    {%- endif -%}
  {%- else -%}
    {{- raise_exception('A message has the role ' + message['role'] + '. Use system, user, assistant or tool.') -}}
  {%- endif -%}
  {{- '<|end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|><think>' + ('' if thinking else '</think>') -}}{%- endif -%}
"""

JINJA_SHA256 = hashlib.sha256(JINJA.encode()).hexdigest()

"""What transformers makes of conversations, and TRL of prompts with completions: tests/data/truth/chat.

    python tests/truth/chat.py tests/data/truth/chat

tokenizer.json is a small byte-level BPE with the control tokens of all templates. cases.jsonl has a case a line: a template and
a conversation with its token ids and, for each, whether it is learnt (`mask`). What is learnt are the assistant's turns: by
`return_assistant_tokens_mask` where the template marks them, else each from behind the tokens that the template writes with
`add_generation_prompt` before it. A template that writes a conversation otherwise once it goes on has `unstable`, one that
refuses it `raised`. Cases with `conversations` are written as ShareGPT has them, and may have tools, or several templates of which
`tool_use` is for these. A case with a prompt and its completion is what TRL's SFTTrainer makes of it: the end of text is appended,
and the tokens of the prompt alone are not learnt.
"""
import json
import re
import sys
from pathlib import Path

from jinja2.exceptions import TemplateError
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CONTROL = (
    "<|endoftext|> <|im_start|> <|im_end|> <|begin_of_text|> <|start_header_id|> <|end_header_id|> <|eot_id|> <s> </s> [INST] "
    "[/INST] <bos> <start_of_turn> <end_of_turn> <|eos|>"
).split()

TEMPLATES = {
    # Qwen2 and Qwen2.5 without tools.
    "chatml": (
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
        "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    # As the GGUF file of SmolLM2-135M-Instruct has it.
    "smollm2": (
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
        "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n"
        "' + message['content'] + '<|im_end|>' + '\n"
        "'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n"
        "' }}{% endif %}"
    ),
    "llama3": (
        "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
        "message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
        "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    ),
    # Llama 3.1 without tools: a date, blocks on lines of their own, whitespace taken away by hand.
    "llama31": """{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}

{#- This block extracts the system message, so we can slot it into the right place. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}

{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}

{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
        {{- '{"name": "' + message.tool_calls[0].function.name + '", ' }}
        {{- '"parameters": ' }}
        {{- message.tool_calls[0].function.arguments | tojson }}
        {{- "}" }}
        {{- "<|eot_id|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
    "mistral": """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
        {{- raise_exception("After the optional system message, conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif %}
    {%- set ns.index = ns.index + 1 %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.first and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported, with the exception of an initial optional system message!") }}
    {%- endif %}
{%- endfor %}
""",
    "gemma": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception("
        "'Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if (message['role'] == "
        "'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role "
        "+ '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}"
        "{{'<start_of_turn>model\n'}}{% endif %}"
    ),
    # Qwen3's way with reasoning: only the last turns keep it.
    "qwen3": """{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}""",
    # Marks what is generated, as SmolLM3 and templates for training do.
    "generation": """{%- for message in messages %}
  {%- if message.role == "assistant" %}
    {{- "<|im_start|>assistant\\n" }}
    {% generation %}
    {{- message.content + "<|im_end|>" }}
    {%- endgeneration %}
    {{- "\\n" }}
  {%- else %}
    {{- "<|im_start|>" + message.role + "\\n" + message.content + "<|im_end|>\\n" }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- "<|im_start|>assistant\\n" }}{%- endif %}
""",
}
# Qwen2.5 with tools.
QWEN25 = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' }}
    {%- endif %}
    {{- "\\n\\n# Tools\\n\\nYou may call one or more functions to assist with the user query.\\n\\nYou are provided with function signatures within <tools></tools> XML tags:\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools>\\n\\nFor each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\\n<tool_call>\\n{\\"name\\": <function-name>, \\"arguments\\": <args-json-object>}\\n</tool_call><|im_end|>\\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- message.content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
TOKENS = {
    "llama3": ("<|begin_of_text|>", "<|eot_id|>"),
    "llama31": ("<|begin_of_text|>", "<|eot_id|>"),
    "mistral": ("<s>", "</s>"),
    "gemma": ("<bos>", "<end_of_turn>"),
}

turn = lambda role, content, **more: {"role": role, "content": content, **more}
CONVERSATIONS = [
    [turn("user", "What is the capital of France?"), turn("assistant", "Paris.")],
    [turn("system", "Answer in one word."), turn("user", "Hello!"), turn("assistant", "Hi")],
    [
        turn("user", "Say  two  spaces\n\nand lines "),
        turn("assistant", " Two spaces: '  '\n\n1. é 😀 東京\n"),
        turn("user", "Again, \"quoted\" <b>&amp;</b>?"),
        turn("assistant", "No."),
    ],
    [turn("user", "Nothing?"), turn("assistant", "")],
    [turn("user", "Only asked")],
    [turn("user", "one"), turn("user", "two"), turn("assistant", "three"), turn("assistant", "four")],
    [
        turn("user", "Think"),
        turn("assistant", "<think>\nhm\n</think>\n\nYes"),
        turn("user", "More"),
        turn("assistant", "<think>\nso\n</think>\n\nNo"),
    ],
    [turn("user", "Reason"), turn("assistant", "Done", reasoning="because"), turn("user", "ok"), turn("assistant", "fine")],
    [
        turn("user", "Weather?"),
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "get", "arguments": {"city": "Köln", "n": [1, 2.5, True, None]}}}]},
        turn("tool", {"temp": 3, "note": "<cold>"}),
        turn("assistant", "3 degrees"),
    ],
]
says = lambda speaker, value: {"from": speaker, "value": value}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a <city>, e.g. Köln",
            "parameters": {"type": "object", "properties": {"days": {"type": "integer", "default": 1.0}, "city": {"type": "string"}}, "required": ["city"]},
        },
    },
    {"name": "bare", "parameters": {}},
]
SHAREGPT = [
    ([says("human", "Hello!"), says("gpt", "Hi")], None),
    ([says("system", "Be brief."), says("human", "Weather in Köln?"), says("gpt", "Which day?"), says("human", "Today"), says("gpt", "Cold.")], TOOLS),
    (
        [
            says("human", "Weather in Köln and Rom?"),
            says("function_call", json.dumps([{"name": "get_weather", "arguments": {"city": c, "days": 2}} for c in ["Köln", "Rom"]], ensure_ascii=False)),
            says("observation", '{"temp": 3}'),
            says("observation", '{"temp": 20}'),
            says("gpt", "3 and 20 degrees"),
            says("human", "Thanks"),
            says("gpt", "Welcome"),
        ],
        TOOLS,
    ),
    ([says("human", "No tools"), says("gpt", "None")], []),
]
SPEAKERS = {"human": "user", "gpt": "assistant", "system": "system", "observation": "tool"}
COMPLETIONS = [
    ("Question: 2 + 2?\nAnswer:", " 4"),
    ("The capital of France is", " Paris, é 東京."),
    ("", "Only an answer"),
    ("SELECT: ", "name"),
    ("ends already", " yes<|eos|>"),
    ("nothing follows", ""),
]


def tokenizer():
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    text = [m["content"] for c in CONVERSATIONS for m in c if isinstance(m["content"], str)] + [a + b for a, b in COMPLETIONS]
    text += ["user assistant system model helpful AI named trained by Cutting Knowledge Date December Today Jul"] * 3
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(text * 2, trainers.BpeTrainer(vocab_size=380, initial_alphabet=alphabet, show_progress=False))
    bpe.add_special_tokens([AddedToken(c, special=True, normalized=False) for c in CONTROL])
    return bpe


def fast(bpe, bos, eos, **more):
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=bos, eos_token=eos, **more)


def overlaps(tok, text, ids, start):
    """A mask of the tokens from a character on."""
    offsets = tok(text, add_special_tokens=False, return_offsets_mapping=True)
    assert offsets["input_ids"] == ids
    return [int(end > start) for _, end in offsets["offset_mapping"]]


def openai(conversation):
    """The messages of a conversation as ShareGPT has them."""
    def message(turn):
        if turn["from"] == "function_call":
            calls = json.loads(turn["value"])
            calls = calls if isinstance(calls, list) else [calls]
            return {"role": "assistant", "tool_calls": [{"type": "function", "function": call} for call in calls]}
        return {"role": SPEAKERS[turn["from"]], "content": turn["value"]}
    return [message(turn) for turn in conversation]


def chat(tok, messages, tools=None):
    ids = lambda some, prompt: tok.apply_chat_template(some, tools=tools, add_generation_prompt=prompt, return_dict=False)
    try:
        if re.search(r"\{%-?\s*generation", tok.get_chat_template(tools=tools)):
            out = tok.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
            return {"ids": out["input_ids"], "mask": out["assistant_masks"]}
        whole = ids(messages, False)
        mask = [0] * len(whole)
        for at, message in enumerate(messages):
            if message["role"] == "assistant":
                before, upto = ids(messages[:at], True), ids(messages[: at + 1], False)
                if whole[: len(before)] != before or whole[: len(upto)] != upto:
                    return {"unstable": True}
                mask[len(before) : len(upto)] = [1] * (len(upto) - len(before))
        return {"ids": whole, "mask": mask}
    except TemplateError as error:
        return {"raised": error.message}


def completion(tok, prompt, answer):
    answer = answer if answer.endswith(tok.eos_token) else answer + tok.eos_token
    asked, whole = tok(prompt)["input_ids"], tok(prompt + answer)["input_ids"]
    stable = whole[: len(asked)] == asked
    return {"ids": whole, "mask": [0] * len(asked) + [1] * (len(whole) - len(asked))} if stable else {"unstable": True, "ids": whole}


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    bpe = tokenizer()
    bpe.save(str(folder / "tokenizer.json"))
    lines = []
    for name, template in TEMPLATES.items():
        bos, eos = TOKENS.get(name, ("<|endoftext|>", "<|im_end|>"))
        tok = fast(bpe, bos, eos, chat_template=template)
        lines.append({"template": name, "text": template, "tokens": {"bos_token": bos, "eos_token": eos}})
        for messages in CONVERSATIONS:
            lines.append({"template": name, "messages": messages, **chat(tok, messages)})
    bos, eos = "<|endoftext|>", "<|im_end|>"
    for name, template in [("qwen25", QWEN25), ("named", {"default": TEMPLATES["chatml"], "tool_use": QWEN25})]:
        tok = fast(bpe, bos, eos, chat_template=template)
        lines.append({"template": name, "text": template, "tokens": {"bos_token": bos, "eos_token": eos}})
        for conversation, tools in SHAREGPT:
            # Of no tools, a row has an empty list or no value.
            made = chat(tok, openai(conversation), tools or None)
            lines.append({"template": name, "conversations": conversation, "tools": tools, **made})
    for bos in [False, True]:
        special = [("<s>", bpe.token_to_id("<s>"))]
        bpe.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=special) if bos else processors.ByteLevel(trim_offsets=True)
        if bos:
            bpe.save(str(folder / "tokenizer_bos.json"))
        for prompt, answer in COMPLETIONS:
            tok = fast(bpe, "<s>", "<|eos|>")
            lines.append({"bos": bos, "prompt": prompt, "completion": answer, **completion(tok, prompt, answer)})
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (folder / "cases.jsonl").write_text(text)


main(Path(sys.argv[1]))

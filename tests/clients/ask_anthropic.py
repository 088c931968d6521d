"""What Anthropic's package for Python gets from a server with the built-in model, whose address is the argument."""

import base64
import json
import sys
from typing import Literal

import anthropic
from pydantic import BaseModel

client = anthropic.Anthropic(base_url=sys.argv[1], api_key="none", max_retries=0)
print("anthropic", anthropic.__version__)

with open("examples/red-circle.png", "rb") as file:
    data = base64.b64encode(file.read()).decode()
image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
messages = [{"role": "user", "content": [image, {"type": "text", "text": "What colour is the circle?"}]}]
whole = client.messages.create(model="default", max_tokens=20, messages=messages)
assert whole.content[0].text == "red" and whole.stop_reason == "end_turn", whole
print("whole:", whole.content[0].text)

counted = client.messages.count_tokens(model="default", messages=messages)
assert counted.input_tokens == whole.usage.input_tokens + (whole.usage.cache_read_input_tokens or 0), counted

with client.messages.stream(model="default", max_tokens=20, messages=messages) as stream:
    said = "".join(stream.text_stream)
    final = stream.get_final_message()
assert said == "red" and final.usage.output_tokens == whole.usage.output_tokens, final
print("stream:", said)


class Shape(BaseModel):
    colour: Literal["blue", "green", "red"]


parsed = client.messages.parse(model="default", max_tokens=60, messages=messages, output_format=Shape)
assert parsed.parsed_output.colour == "red", parsed
print("schema:", parsed.content[0].text)
schema = {"type": "object", "properties": {"n": {"type": "integer", "enum": [1, 2, 3]}}, "required": ["n"], "additionalProperties": False}
config = {"format": {"type": "json_schema", "schema": schema}}
with client.messages.stream(model="default", max_tokens=60, messages=messages, output_config=config) as stream:
    assert isinstance(json.loads("".join(stream.text_stream))["n"], int)

elsewhere = [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://pictures.invalid/a.png"}}]}]
config["format"]["schema"]["not"] = {}
for wrong in [{"messages": elsewhere}, {"messages": messages, "output_config": config}]:
    try:
        client.messages.create(model="default", max_tokens=20, **wrong)
    except anthropic.BadRequestError as error:
        print("refused:", error.body["error"]["message"])
    else:
        raise AssertionError(f"{wrong} was not refused")
try:
    client.messages.create(model="default", max_tokens=20, messages=messages, tools=[{"name": "f", "input_schema": {"type": "object"}}])
except anthropic.BadRequestError as error:
    print("refused:", error.body["error"]["message"])
else:
    raise AssertionError("tools were not refused")

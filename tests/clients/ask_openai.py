"""What OpenAI's package for Python gets from a server with the built-in model, whose address is the argument."""

import base64
import sys
from typing import Literal

import openai
from pydantic import BaseModel

client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="none", max_retries=0)
print("openai", openai.__version__)

names = [model.id for model in client.models.list()]
assert "default" in names, names
assert client.models.retrieve("default").owned_by == "owlet"


def question(path: str, text: str) -> list:
    with open(path, "rb") as file:
        picture = base64.b64encode(file.read()).decode()
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}}
    return [{"role": "user", "content": [image, {"type": "text", "text": text}]}]


messages = question("examples/red-circle.png", "What colour is the circle?")
whole = client.chat.completions.create(model="default", messages=messages, temperature=0, seed=7, user="me")
answer = whole.choices[0].message.content
assert answer == "red" and whole.choices[0].finish_reason == "stop", whole
assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
print("whole:", answer)

stream = client.chat.completions.create(
    model="default", messages=messages, temperature=0, stream=True, stream_options={"include_usage": True}
)
chunks = list(stream)
said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
assert said == answer and chunks[-1].usage.completion_tokens == whole.usage.completion_tokens, chunks
print("stream:", said)

messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": "How many circles are there?"}]
second = client.chat.completions.create(model="default", messages=messages, temperature=0)
assert second.usage.prompt_tokens_details.cached_tokens > whole.usage.prompt_tokens - 8, second.usage
print("second turn:", second.choices[0].message.content)



class Shape(BaseModel):
    colour: Literal["blue", "green", "red", "yellow"]
    n: Literal[1, 2, 3]


asked = {"model": "default", "messages": messages[:1], "temperature": 0}
parsed = client.chat.completions.parse(response_format=Shape, **asked).choices[0].message.parsed
assert parsed.colour == "red", parsed
print("schema:", parsed)
anything = client.chat.completions.create(response_format={"type": "json_object"}, max_tokens=40, **asked)
assert anything.choices[0].message.content.startswith("{"), anything
try:
    schema = {"name": "s", "schema": {"properties": {"a": {"not": {}}}}}
    client.chat.completions.create(response_format={"type": "json_schema", "json_schema": schema}, **asked)
except openai.BadRequestError as error:
    assert "#/properties/a" in error.body["message"], error
    print("refused:", error.body["message"])
else:
    raise AssertionError("the schema was not refused")

told = client.chat.completions.create(logprobs=True, top_logprobs=3, **asked)
tokens = told.choices[0].logprobs.content
assert bytes(byte for token in tokens for byte in token.bytes).decode().strip() == told.choices[0].message.content, told
assert all(token.logprob == token.top_logprobs[0].logprob <= 0 and len(token.top_logprobs) == 3 for token in tokens), tokens
stream = client.chat.completions.create(logprobs=True, top_logprobs=3, stream=True, **asked)
streamed = [token for chunk in stream if chunk.choices[0].logprobs for token in chunk.choices[0].logprobs.content]
assert streamed == tokens, streamed
print("logprobs:", [(token.token, round(token.logprob, 4)) for token in tokens])

prompts = ["The circle is", "一个"]
completed = client.completions.create(model="default", prompt=prompts, max_tokens=6, temperature=0, logprobs=2)
assert [choice.index for choice in completed.choices] == [0, 1], completed
assert "".join(completed.choices[0].logprobs.tokens) == completed.choices[0].text, completed
echoed = client.completions.create(model="default", prompt=prompts, max_tokens=6, temperature=0, echo=True, stream=True)
said = ["", ""]
for chunk in echoed:
    said[chunk.choices[0].index] += chunk.choices[0].text
assert said == [prompt + choice.text for prompt, choice in zip(prompts, completed.choices)], said
print("completions:", said)

with open("examples/red-circle.png", "rb") as file:
    picture = "data:image/png;base64," + base64.b64encode(file.read()).decode()
embedded = client.embeddings.create(model="default", input=[picture, picture], encoding_format="float")
# The package asks for base64 if nothing is said, and decodes it.
same = client.embeddings.create(model="default", input=picture).data[0].embedding
assert all(abs(a - b) < 1e-7 for a, b in zip(embedded.data[1].embedding, same, strict=True)), embedded
print("embedding:", len(same), "values,", embedded.usage)

for name, wrong in {
    "tools": {"tools": [{"type": "function", "function": {"name": "f"}}]},
    "top_logprobs": {"top_logprobs": 3},
    "presence_penalty": {"presence_penalty": 1},
}.items():
    try:
        client.chat.completions.create(model="default", messages=messages, **wrong)
    except openai.BadRequestError as error:
        assert error.param == name, error
        print("refused:", error.body["message"])
    else:
        raise AssertionError(f"{name} was not refused")
elsewhere = [{"type": "image_url", "image_url": {"url": "https://pictures.invalid/a.png"}}]
calls = {
    "a picture elsewhere": lambda: client.chat.completions.create(model="default", messages=[{"role": "user", "content": elsewhere}]),
    "an embedding of a text": lambda: client.embeddings.create(model="default", input="What is an owl?"),
    "a suffix": lambda: client.completions.create(model="default", prompt="a", suffix="b"),
}
for what, call in calls.items():
    try:
        call()
    except openai.BadRequestError as error:
        print("refused:", error.body["message"])
    else:
        raise AssertionError(f"{what} was not refused")
try:
    client.chat.completions.create(model="gpt-4o", messages=messages)
except openai.NotFoundError as error:
    print("refused:", error.body["message"])
else:
    raise AssertionError("another model was not refused")

"""What OpenAI's package for Python gets from a server with the built-in model, whose address is the argument."""

import base64
import sys

import openai

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

for name, wrong in {
    "tools": {"tools": [{"type": "function", "function": {"name": "f"}}]},
    "response_format": {"response_format": {"type": "json_object"}},
    "logprobs": {"logprobs": True},
}.items():
    try:
        client.chat.completions.create(model="default", messages=messages, **wrong)
    except openai.BadRequestError as error:
        assert error.param == name, error
        print("refused:", error.body["message"])
    else:
        raise AssertionError(f"{name} was not refused")
try:
    client.chat.completions.create(model="gpt-4o", messages=messages)
except openai.NotFoundError as error:
    print("refused:", error.body["message"])
else:
    raise AssertionError("another model was not refused")

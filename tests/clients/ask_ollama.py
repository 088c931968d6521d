"""What Ollama's package for Python gets from a server with the built-in model, whose address is the argument."""

import json
import sys
from importlib.metadata import version

import ollama

client = ollama.Client(host=sys.argv[1])
print("ollama", version("ollama"))

[model] = client.list().models
assert client.show(model.model).capabilities == ["completion", "vision"]
assert client.ps().models[0].digest == model.digest

message = {"role": "user", "content": "What colour is the circle?", "images": ["examples/red-circle.png"]}
whole = client.chat(model=model.model, messages=[message], options={"temperature": 0})
assert whole.message.content == "red" and whole.done_reason == "stop", whole
print("whole:", whole.message.content)
said = "".join(part.message.content for part in client.chat(model="default", messages=[message], stream=True))
assert said == "red", said
print("stream:", said)
generated = client.generate(model="default", prompt=message["content"], images=message["images"])
assert generated.response == "red", generated

schema = {
    "type": "object",
    "properties": {"colour": {"enum": ["blue", "green", "red"]}, "n": {"enum": [1, 2, 3]}},
    "required": ["colour", "n"],
    "additionalProperties": False,
}
shape = client.chat(model="default", messages=[message], format=schema, options={"temperature": 0})
assert json.loads(shape.message.content)["colour"] == "red", shape
print("schema:", shape.message.content)
anything = client.generate(model="default", prompt=message["content"], format="json", options={"num_predict": 20})
assert anything.response.startswith("{"), anything

told = client.chat(model="default", messages=[message], logprobs=True, top_logprobs=2, options={"temperature": 0})
assert "".join(token.token for token in told.logprobs).strip() == told.message.content, told
assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in told.logprobs), told
parts = client.generate(model="default", prompt="What is red?", logprobs=True, stream=True)
assert sum(len(part.logprobs or []) for part in parts) > 0
raw = client.generate(model="default", prompt="The circle is", raw=True, options={"num_predict": 4, "temperature": 0})
print("raw:", repr(raw.response))

for wrong in [{"format": {"properties": {"a": {"not": {}}}}}, {"think": True}, {"options": {"mirostat": 1}}]:
    try:
        client.chat(model="default", messages=[message], **wrong)
    except ollama.ResponseError as error:
        assert error.status_code == 400, error
        print("refused:", error.error)
    else:
        raise AssertionError(f"{wrong} was not refused")

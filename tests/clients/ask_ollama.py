"""What Ollama's package for Python gets from a server with the built-in model, whose address is the argument."""

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
try:
    client.chat(model="default", messages=[message], format="json")
except ollama.ResponseError as error:
    assert error.status_code == 400, error
    print("refused:", error.error)
else:
    raise AssertionError("format was not refused")

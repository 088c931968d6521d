// What OpenAI's package for Node gets from a server with the built-in model, whose address is the argument.

import assert from "node:assert";
import { readFileSync } from "node:fs";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2] + "/v1", apiKey: "none", maxRetries: 0 });
const url = "data:image/png;base64," + readFileSync("examples/red-circle.png", "base64");
const content = [{ type: "image_url", image_url: { url } }, { type: "text", text: "What colour is the circle?" }];
const asked = { model: "default", messages: [{ role: "user", content }], temperature: 0 };

const whole = await client.chat.completions.create(asked);
assert.equal(whole.choices[0].message.content, "red");
console.log("node, whole:", whole.choices[0].message.content);

let said = "";
for await (const chunk of await client.chat.completions.create({ ...asked, stream: true }))
  said += chunk.choices[0]?.delta.content ?? "";
assert.equal(said, "red");
console.log("node, stream:", said);

await assert.rejects(client.chat.completions.create({ ...asked, logprobs: true }), OpenAI.BadRequestError);

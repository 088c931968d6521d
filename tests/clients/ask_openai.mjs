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

const schema = {
  type: "object",
  properties: { colour: { enum: ["blue", "green", "red"] }, n: { enum: [1, 2, 3] } },
  required: ["colour", "n"],
  additionalProperties: false,
};
const format = { type: "json_schema", json_schema: { name: "shape", strict: true, schema } };
const parsed = await client.chat.completions.parse({ ...asked, response_format: format });
assert.equal(JSON.parse(parsed.choices[0].message.content).colour, "red");
console.log("node, schema:", parsed.choices[0].message.content);

const told = await client.chat.completions.create({ ...asked, logprobs: true, top_logprobs: 2 });
const tokens = told.choices[0].logprobs.content;
assert.equal(Buffer.from(tokens.flatMap((token) => token.bytes)).toString().trim(), "red");
assert(tokens.every((token) => token.top_logprobs.length === 2));

const completed = await client.completions.create({ model: "default", prompt: "The circle is", max_tokens: 4, n: 2 });
assert.equal(completed.choices.length, 2);
const { data } = await client.embeddings.create({ model: "default", input: url });
assert(data[0].embedding.length > 0 && data[0].embedding.every(Number.isFinite));
console.log("node, embedding:", data[0].embedding.length, "values");

const elsewhere = [{ type: "image_url", image_url: { url: "https://pictures.invalid/a.png" } }];
for (const wrong of [{ top_logprobs: 2 }, { tools: [{ type: "function", function: { name: "f" } }] }, { messages: [{ role: "user", content: elsewhere }] }])
  await assert.rejects(client.chat.completions.create({ ...asked, ...wrong }), OpenAI.BadRequestError);

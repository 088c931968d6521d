// The way to the server: one question of a conversation, answered as a stream.

/** The server said no: with what status, and about what part of the request. */
class Refused extends Error {
  constructor(message, status, param = null) {
    super(message);
    Object.assign(this, { status, param });
  }
}

const bearer = () => (recall("key") ? { Authorization: `Bearer ${recall("key")}` } : {});

/** @throws {Refused} what the server answers, where that is no success. */
async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: { ...options.headers, ...bearer() } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(say("noServer"), 0);
  }
  if (response.ok) return response;
  const told = (await response.json().catch(() => null))?.error;
  throw new Refused(told?.message ?? `${response.status} ${response.statusText}`, response.status, told?.param);
}

/** The model's name; asks for a key where one is needed. */
async function modelName() {
  const { data } = await (await call("v1/models")).json();
  return data[0].id;
}

const dataUri = (blob) =>
  new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });

/** A turn as the server reads it: pictures first, in their order. */
async function message({ role, text, pictures = [] }) {
  if (pictures.length === 0) return { role, content: text };
  const parts = [];
  for (const { blob } of pictures) parts.push({ type: "image_url", image_url: { url: await dataUri(blob) } });
  if (text) parts.push({ type: "text", text });
  return { role, content: parts };
}

/** Calls a part of `messages`, of which `turns` are the last, by the name that its picture has for the user. */
function named(error, turns, messages) {
  const found = /^messages\[(\d+)\]\.content\[(\d+)\]/.exec(error.param ?? "");
  const picture = found && turns[found[1] - (messages.length - turns.length)]?.pictures?.[found[2]];
  if (picture) error.message = error.message.replace(error.param, picture.name);
  return error;
}

/** How far a picture or the prompt is, from a comment of the stream. */
function progress(comment) {
  let found = /^picture (\d+): step (\d+) of (\d+)/.exec(comment);
  if (found) return { what: "pictureAt", n: +found[1], done: +found[2], total: +found[3] };
  found = /^prompt: (\d+) of (\d+)/.exec(comment);
  if (found) return { what: "promptAt", done: +found[1], total: +found[2] };
  return { what: comment.startsWith("waiting") ? "waiting" : "working" };
}

/**
 * Asks for the answer to `turns`, which end with a question.
 * @param {(text: string) => void} onText each piece of the answer
 * @param {(how: object) => void} onProgress
 * @returns {Promise<{reason: string, facts: object, usage: object}>}
 * @throws {Refused} and AbortError where `signal` was given.
 */
async function ask(turns, { signal, onText, onProgress }) {
  const messages = [];
  if (recall("system")) messages.push({ role: "system", content: recall("system") });
  for (const turn of turns) messages.push(await message(turn));
  const body = { model: "default", messages, stream: true, stream_options: { include_usage: true } };
  if (recall("temperature")) body.temperature = +recall("temperature");
  if (recall("max-tokens")) body.max_tokens = +recall("max-tokens");
  const headers = { "Content-Type": "application/json" };
  const request = { method: "POST", headers, body: JSON.stringify(body), signal };
  const response = await call("v1/chat/completions", request).catch((error) => {
    throw named(error, turns, messages);
  });

  const told = { reason: null, facts: null, usage: null };
  for await (const line of lines(response.body)) {
    if (line.startsWith(":")) onProgress(progress(line.slice(1).trim()));
    if (!line.startsWith("data: {")) continue;
    const event = JSON.parse(line.slice(6));
    if (event.error) throw new Refused(event.error.message, 0);
    const choice = event.choices[0];
    if (choice?.delta.content) onText(choice.delta.content);
    told.reason = choice?.finish_reason ?? told.reason;
    told.facts = event.owlet ?? told.facts;
    told.usage = event.usage ?? told.usage;
  }
  // A stream without an end is one that broke off.
  if (!told.reason) throw new Refused(say("noServer"), 0);
  return told;
}

/** The lines of a stream of bytes. */
async function* lines(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read().catch((error) => {
      if (error.name === "AbortError") throw error;
      throw new Refused(say("noServer"), 0);
    });
    if (done) break;
    const found = (rest + value).split("\n");
    rest = found.pop();
    yield* found;
  }
}

// A conversation as a file of its own.

const fileName = (title, ending) => `${title.replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40) || "owlet"}.${ending}`;

function markdown({ title, turns }) {
  const parts = [`# ${title}`];
  for (const { role, text, pictures = [] } of turns) {
    const names = pictures.map(({ name }, n) => `*${say("picture", { n: n + 1 })}: ${name}*`);
    const words = role === "user" ? text.replace(/^/gm, "> ") : text;
    parts.push([...names, words].filter(Boolean).join("\n\n"));
  }
  return `${parts.filter(Boolean).join("\n\n")}\n`;
}

async function json({ title, changed, turns }) {
  const told = [];
  for (const { role, text, state, facts, usage, pictures = [] } of turns) {
    const shots = [];
    for (const { name, blob } of pictures) shots.push({ name, data: await dataUri(blob) });
    told.push({ role, text, pictures: shots.length ? shots : undefined, state, owlet: facts, usage });
  }
  return JSON.stringify({ title, changed: new Date(changed).toISOString(), turns: told }, null, 2);
}

/** Hands the conversation to the browser to be saved. */
async function save(conversation, ending) {
  const [text, type] =
    ending === "json" ? [await json(conversation), "application/json"] : [markdown(conversation), "text/markdown"];
  const url = URL.createObjectURL(new Blob([text], { type }));
  make("a", { href: url, download: fileName(conversation.title, ending) }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

// The page: which conversations there are, which is open, and what goes on in each.

const at = (id) => document.getElementById(id);
const shelf = new Shelf();
const conversations = [];
/** What ends the answer that a conversation waits for. */
const running = new Map();
let open = null;
let live = null;

function begin() {
  open = { id: `${Date.now()}-${Math.random()}`, title: "", changed: Date.now(), turns: [] };
  show();
}

/** Shows the open conversation from its end. */
function show() {
  draw();
  at("log").scrollTop = at("log").scrollHeight;
}

function draw() {
  const { turns } = open;
  live = null;
  const views = turns.map((turn, n) => {
    if (turn.role === "user") return questionView(turn, turns[n + 1]);
    const acts = n === turns.length - 1 ? { again, edit } : null;
    const answer = answerView(turn, acts);
    if (turn.state === "running") live = answer;
    return answer.view;
  });
  at("log").replaceChildren(...(views.length ? views : [welcome()]));
  at("title").textContent = document.title = open.title || "owlet";
  at("send").hidden = running.has(open.id);
  at("stop").hidden = !running.has(open.id);
  showList();
}

function showList() {
  const items = conversations.map((conversation) => {
    const { title } = conversation;
    const name = make("button", { type: "button", className: "quiet name", title }, make("span", {}, title));
    if (conversation === open) name.setAttribute("aria-current", "true");
    name.onclick = () => {
      open = conversation;
      show();
      toggleSide(false);
    };
    const remove = make("button", { type: "button", className: "quiet", ariaLabel: say("removeThis", { name: title }) }, "✕");
    remove.onclick = () => removeAfterAsking(conversation);
    return make("li", { className: conversation === open ? "open" : "" }, name, remove);
  });
  at("list").replaceChildren(...items);
}

/** Takes `question` into the open conversation, and asks it. */
async function send(question) {
  const conversation = open;
  if (conversation.turns.length === 0) {
    conversation.title = (question.text || question.pictures[0].name).slice(0, 80);
    conversations.unshift(conversation);
  }
  conversation.turns.push({ role: "user", ...question });
  await answer(conversation);
}

/** What the model is told: questions that got no answer are not part of it, but for the last one. */
function heard(turns) {
  const last = turns.length - 1;
  return turns.filter((turn, n) => (turn.role === "user" ? n === last || turns[n + 1].text : turn.text));
}

/** Answers the last question of `conversation`, whichever is open meanwhile. */
async function answer(conversation) {
  const control = new AbortController();
  const asked = heard(conversation.turns);
  const turn = { role: "assistant", text: "", state: "running" };
  conversation.turns.push(turn);
  running.set(conversation.id, control);
  problem("");
  show();
  announce(say("answering"));
  // Whoever leaves now finds the question again.
  await keep(conversation);
  try {
    const told = await ask(asked, {
      signal: control.signal,
      onText(text) {
        turn.text += text;
        if (open === conversation) follow(() => write(turn));
      },
      onProgress(how) {
        if (open === conversation && live) showProgress(live, how);
      },
    });
    Object.assign(turn, { state: told.reason === "length" ? "length" : "done", facts: told.facts, usage: told.usage });
  } catch (error) {
    if (error.name === "AbortError") turn.state = "stopped";
    else Object.assign(turn, { state: "failed", problem: error.message });
    if (error.status === 401) askKey(true);
  }
  running.delete(conversation.id);
  if (conversations.includes(conversation)) await keep(conversation);
  if (open === conversation) follow(draw);
  announce(turn.text ? say("answered", turn) : turn.problem ?? say("stopped"));
}

async function keep(conversation) {
  conversation.changed = Date.now();
  at("forgetful").hidden = await shelf.keep(conversation);
}

function write(turn) {
  if (!live) return;
  live.bubble.hidden = false;
  live.bubble.textContent = turn.text;
  live.bar.hidden = true;
  live.how.textContent = "";
}

/** Changes the log, and stays at its end if that was in sight. */
function follow(change) {
  const log = at("log");
  const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
  change();
  if (isAtEnd) log.scrollTo({ top: log.scrollHeight, behavior: "instant" });
}

function again() {
  open.turns.pop();
  answer(open);
}

function edit() {
  const [question] = open.turns.splice(-2);
  composer.take(question);
  show();
}

function problem(text) {
  at("problem").textContent = text;
  at("problem").hidden = !text;
}

/** Shows a dialog; resolves to the button by which it was left. */
function dialog(id) {
  const box = at(id);
  box.returnValue = "cancel";
  box.showModal();
  return new Promise((resolve) => box.addEventListener("close", () => resolve(box.returnValue), { once: true }));
}

async function removeAfterAsking(conversation) {
  at("remove-what").textContent = conversation.title;
  if ((await dialog("remove-box")) !== "remove") return;
  running.get(conversation.id)?.abort();
  conversations.splice(conversations.indexOf(conversation), 1);
  await shelf.remove(conversation.id);
  if (open === conversation) begin();
  else showList();
}

async function changeSettings() {
  const fields = { system: "system", temperature: "temperature", "max-tokens": "max-tokens", theme: "theme", key: "settings-key" };
  for (const [name, id] of Object.entries(fields)) at(id).value = recall(name) ?? "";
  if ((await dialog("settings-box")) !== "save") return;
  for (const [name, id] of Object.entries(fields)) remember(name, at(id).value.trim());
  paint();
  await meet();
}

async function askKey(wasWrong) {
  if (at("key-box").open) return;
  at("wrong-key").hidden = !(wasWrong && recall("key"));
  at("given-key").value = "";
  if ((await dialog("key-box")) !== "save") return;
  remember("key", at("given-key").value.trim());
  await meet();
}

/** Learns what model answers here, and whether a key is needed. */
async function meet() {
  try {
    at("model").textContent = await modelName();
    problem("");
  } catch (error) {
    if (error.status === 401) await askKey(true);
    else problem(error.message);
  }
}

function paint() {
  document.documentElement.dataset.theme = recall("theme") ?? "";
}

function toggleSide(isOpen) {
  at("side").classList.toggle("open", isOpen);
  at("open-side").ariaExpanded = isOpen;
  if (isOpen) at("close-side").focus();
}

const composer = new Composer(send);
at("new").onclick = () => {
  begin();
  toggleSide(false);
  at("question").focus();
};
at("stop").onclick = () => running.get(open.id)?.abort();
at("settings").onclick = changeSettings;
at("export").onclick = async () => {
  if (open.turns.length === 0) return problem(say("nothingToExport"));
  const ending = await dialog("export-box");
  if (ending !== "cancel") await save(open, ending);
};
at("language").onclick = () => {
  language = language === "en" ? "zh" : "en";
  remember("language", language);
  translate();
  composer.show();
  show();
};
at("open-side").onclick = () => toggleSide(true);
at("close-side").onclick = () => {
  toggleSide(false);
  at("open-side").focus();
};
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
  if (at("side").classList.contains("open")) at("close-side").onclick();
  else running.get(open.id)?.abort();
});

/** Takes in what was kept. Meanwhile the page can be used already. */
async function recollect() {
  for (const conversation of await shelf.all()) {
    // A page that was left in the middle of an answer finds its question without one.
    for (const turn of conversation.turns) if (turn.state === "running") turn.state = "stopped";
    conversations.push(conversation);
  }
  at("forgetful").hidden = await shelf.isLasting();
  showList();
}

paint();
translate();
begin();
await Promise.all([recollect(), meet()]);

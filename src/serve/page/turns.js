// The conversation on the screen.

/** An element: its attributes, or its properties where it has such, and what is in it. */
function make(tag, attributes = {}, ...inside) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...inside.filter((part) => part !== null));
  return element;
}

const shown = new WeakMap();

/** An address of a picture's bytes, which this page alone can read. */
function address(blob) {
  if (!shown.has(blob)) shown.set(blob, URL.createObjectURL(blob));
  return shown.get(blob);
}

const deed = (word, act) => make("button", { type: "button", className: "quiet", onclick: act }, say(word));

/** Copies `text`; the older way works where the page has no encrypted connection, as in most homes. */
async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = make("textarea", { value: text, className: "unseen" });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    button.focus();
  }
  button.textContent = announce(say("copied"));
  setTimeout(() => (button.textContent = say("copy")), 1500);
}

/** Lets screen readers say `text`. */
function announce(text) {
  document.getElementById("status").textContent = text;
  return text;
}

/** Where the time of an answer went. */
function timing({ facts, usage }) {
  const { encode_s, prefill_s, decode_s } = facts.timings;
  const n = usage?.completion_tokens ?? 0;
  const parts = [];
  if (encode_s > 0.05) parts.push(say("timeEncode", { time: duration(encode_s) }));
  else if (facts.images.some((image) => image.cached)) parts.push(say("known"));
  if (prefill_s > 0.05) parts.push(say("timePrefill", { time: duration(prefill_s) }));
  // The first token comes with the reading.
  const rate = ((n - 1) / decode_s).toFixed(1);
  parts.push(say(n < 2 ? "timeOne" : "timeDecode", { n, time: duration(decode_s), rate }));
  return parts.join(" · ");
}

/** What the model got to see of a picture. */
function seen(fact) {
  const { format, width, height, size_px: size, orientation } = fact;
  const text = say("seen", { format, width, height, size });
  return orientation > 1 ? `${text} (${say("turned")})` : text;
}

/** A question: its pictures, with what the model saw of them once that is known, and its text. */
function questionView(turn, answer) {
  const facts = answer?.facts?.images.slice(-turn.pictures.length) ?? [];
  const shots = turn.pictures.map(({ name, blob }, n) =>
    make(
      "figure",
      {},
      make("img", { src: address(blob), alt: name }),
      facts[n] ? make("figcaption", {}, seen(facts[n])) : null,
    ),
  );
  return make(
    "article",
    { className: "turn user", ariaLabel: say("question") },
    shots.length ? make("div", { className: "shots" }, ...shots) : null,
    turn.text ? make("div", { className: "bubble" }, turn.text) : null,
  );
}

/** An answer, as far as there is one, and what can be done about it; `acts` are those of the last one alone. */
function answerView(turn, acts) {
  const view = make("article", { className: "turn assistant", ariaLabel: say("answering") });
  const bubble = make("div", { className: "bubble", hidden: !turn.text }, turn.text);
  view.append(bubble);
  if (turn.state === "running") {
    const bar = make("progress", { hidden: true });
    const how = make("span", {}, say("working"));
    view.append(make("div", { className: "waiting" }, bar, how));
    return { view, bubble, bar, how };
  }
  view.ariaLabel = turn.state;
  if (turn.state === "stopped") view.append(make("p", { className: "small" }, say("stopped")));
  if (turn.state === "length") view.append(make("p", { className: "small" }, say("cutOff")));
  if (turn.state === "failed") view.append(make("p", { className: "problem" }, turn.problem));
  if (!turn.text) view.append(make("p", { className: "small" }, say("noAnswer")));
  const deeds = make("div", { className: "deeds" });
  if (turn.text) deeds.append(deed("copy", (event) => copy(turn.text, event.currentTarget)));
  if (acts) deeds.append(deed("again", acts.again), deed("edit", acts.edit));
  if (turn.facts) deeds.append(make("span", { className: "small" }, timing(turn)));
  view.append(deeds);
  return { view };
}

/** Shows how far a picture or the prompt is. */
function showProgress({ bar, how }, { what, done, total, n }) {
  bar.hidden = total === undefined;
  if (total !== undefined) Object.assign(bar, { max: total, value: done });
  how.textContent = say(what, { n, done, total });
}

/** What a conversation without turns shows. */
function welcome() {
  const parts = [make("h2", {}, say("nothingYet")), make("p", {}, say("nothingYetHow"))];
  return make("div", { className: "welcome" }, ...parts);
}

// Draws a ThreadPayload (payloads.py). A turn that did not change keeps its nodes.
const list = make("div", "list"), welcome = make("div", "welcome"), suggestions = make("div", "suggestions"), foot = make("p", "foot");
const drawn = new Map();
let turns = [], followed = true;
root.replaceChildren(welcome, list, suggestions, foot);
list.setAttribute("role", "log");
list.setAttribute("aria-live", "off");
root.addEventListener("scroll", () => { followed = root.scrollHeight - root.scrollTop - root.clientHeight < 60; });

function action(name, label, run, description) {
  const node = make("button", "act " + name, label);
  node.onclick = run;
  if (description) { node.title = description; node.setAttribute("aria-label", description); }
  return node;
}

function body(turn, answer) {
  const node = make("div", "body"), points = Array.from(answer.text.replace(MARKS, " "));
  let text = "", shown = 0;
  answer.citations.forEach(([, end], i) => {
    const part = points.slice(shown, end).join(""), kept = part.trimEnd();
    text += kept + OPEN + i + CLOSE + part.slice(kept.length);
    shown = end;
  });
  node.append(markdown(text + points.slice(shown).join(""), (i) => {
    const [start, end, number] = answer.citations[i], mark = make("button", "cite", number);
    mark.setAttribute("aria-label", "Source " + number);
    mark.onclick = () => trigger("cite", { turn: turn.id, number, statement: points.slice(start, end).join("") });
    return mark;
  }));
  if (answer.busy) (node.lastElementChild ?? node).append(make("span", "caret"));
  return node;
}

function rating(turn, answer) {
  return [["Helpful", 1], ["Not helpful", -1]].map(([label, value]) => {
    const on = answer.rating === value;
    const node = action("rate", label, () => trigger("rate", { turn: turn.id, mode: answer.mode, rating: on ? 0 : value }));
    node.setAttribute("aria-pressed", on);
    return node;
  });
}

function actions(turn) {
  const node = make("div", "acts"), [first] = turn.answers;
  if (turn.compare) node.append(action("compare", turn.compare, () => trigger("compare", { turn: turn.id })));
  if (turn.longer) node.append(action("longer", turn.longer, () => trigger("longer", { turn: turn.id })));
  if (first?.text) node.append(action("copy", "Copy", async (event) => {
    const { target } = event;
    await navigator.clipboard.writeText(first.text.trim());
    target.textContent = "Copied";
    setTimeout(() => { target.textContent = "Copy"; }, 1500);
  }, "Copy the answer"));
  node.append(action("again", "Ask again", () => trigger("ask", { question: turn.question })));
  node.append(action("edit", "Edit", () => trigger("edit", { question: turn.question }), "Edit the question and ask it again"));
  if (turn.sources && turn.id) node.append(action("select", "Sources", () => trigger("select", { turn: turn.id }), "Show the sources of this answer"));
  if (turn.id && first) node.append(...rating(turn, first));
  return node;
}

function draw_turn(turn) {
  const node = make("article", "turn" + (turn.selected ? " selected" : "")), question = make("div", "question"), reply = make("div", "reply");
  question.append(make("p", "", turn.question));
  if (turn.note) question.append(make("small", "", turn.note));
  for (const answer of turn.answers) {
    if (!answer.text && !answer.title) continue;
    const part = make("section", "answer " + answer.mode);
    if (answer.title) part.append(make("b", "title", answer.title));
    part.append(body(turn, answer));
    if (answer.ended) part.append(make("small", "ended", answer.ended));
    reply.append(part);
  }
  if (turn.status) {
    const status = make("p", "status" + (turn.failed ? " failed" : ""), turn.status);
    status.setAttribute("role", "status");
    reply.append(status);
  }
  if (turn.cost) {
    const cost = make("p", "cost");
    cost.append(make("b", "", turn.cost), turn.detail ? " · " + turn.detail : "");
    reply.append(cost);
  }
  reply.append(...turn.notes.map((note) => make("p", "note", note)));
  if (turn.done) reply.append(actions(turn));
  node.append(question, reply);
  return node;
}

function keyed(turn) {
  const json = JSON.stringify(turn), known = drawn.get(turn.key);
  if (known?.json === json) return known.node;
  const focused = known?.node.contains(document.activeElement) && document.activeElement.className;
  const node = draw_turn(turn);
  drawn.set(turn.key, { json, node });
  if (focused) requestAnimationFrame(() => node.getElementsByClassName(focused)[0]?.focus({ preventScroll: true }));
  return node;
}

function exported() {                            // the conversation as a Markdown file
  const text = turns.map((turn) => [`## ${turn.question}`, ...turn.answers.map((a) => (a.title ? `**${a.title}.** ` : "") + a.text.trim())].join("\n\n")).join("\n\n");
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([text + "\n"], { type: "text/markdown" }));
  link.download = "conversation.md";
  link.click();
  URL.revokeObjectURL(link.href);
}

draw((value) => {
  const before = turns.length;
  turns = value?.turns ?? [];
  for (const key of drawn.keys()) if (!turns.some((turn) => turn.key === key)) drawn.delete(key);
  const nodes = turns.map(keyed);
  if (nodes.length !== list.children.length || nodes.some((node, i) => list.children[i] !== node)) list.replaceChildren(...nodes);
  welcome.replaceChildren();
  if (value?.welcome) welcome.append(make("p", "", value.welcome));
  if (value?.sample) welcome.append(action("sample", value.sample, () => trigger("sample", {})));
  welcome.hidden = !welcome.childNodes.length;
  suggestions.replaceChildren(...(value?.suggestions ?? []).map((question) => action("suggestion", question, () => trigger("ask", { question }))));
  suggestions.hidden = !suggestions.childNodes.length || value.busy;
  foot.replaceChildren(value?.saved ?? "");
  if (turns.some((turn) => turn.answers.length)) foot.append(action("export", "Export", exported, "Export this conversation as a Markdown file"));
  root.dataset.busy = Boolean(value?.busy);
  root.dataset.turns = turns.length;
  if (turns.length > before) followed = true;
  if (followed && turns.length) requestAnimationFrame(() => {
    root.scrollTop = root.scrollHeight;
    if (turns.length > before && root.scrollHeight <= root.clientHeight) list.lastElementChild?.scrollIntoView({ block: "nearest" });
  });
});

// A document cut into blocks. The text comes once, in pages, from the server; the value is only where blocks begin:
// {workspace, doc, version, starts, tokens, scores, edits, readonly, highlight}. Offsets are Python's (code points), so
// that pieces are never cut by JavaScript's UTF-16 indices.
const PAGE = 3000;
let doc = null, loading = 0, pieces = [], offsets = [], sections = new Map(), cursor = -1;

const toolbar = make("div", "bar"), undo = make("button", "undo", "Undo"), status = make("span", "status");
const text = make("div", "text");
status.setAttribute("aria-live", "polite");
text.setAttribute("role", "region");
text.setAttribute("aria-label", "Blocks of the document");
toolbar.append(status, undo);
root.replaceChildren(toolbar, text);

const at = (char) => {                          // index of the piece that begins at `char`, which is cut if none does
  let low = 0, high = offsets.length;
  while (low < high) { const mid = (low + high) >> 1; if (offsets[mid] < char) low = mid + 1; else high = mid; }
  if (offsets[low] === char || low === 0 || char >= end()) return low;
  const points = Array.from(pieces[low - 1]), n = char - offsets[low - 1];
  pieces.splice(low - 1, 1, points.slice(0, n).join(""), points.slice(n).join(""));
  offsets.splice(low, 0, char);
  return low;
};
const end = () => offsets.length ? offsets.at(-1) + Array.from(pieces.at(-1)).length : 0;

function gap(char, joins) {
  const button = make("button", joins ? "gap join" : "gap");
  button.dataset.char = char;
  button.tabIndex = -1;
  const label = joins ? "Merge with the next block" : "Begin a block here";
  button.setAttribute("aria-label", label);
  button.title = label;
  return button;
}

function section(value, i, last) {
  const start = value.starts[i], stop = i + 1 < value.starts.length ? value.starts[i + 1] : end();
  const node = make("section", "block"), body = make("div", "body");
  node.append(head(value, i), body);
  const from = at(start), to = stop === end() ? offsets.length : at(stop);
  for (let p = from; p < to; p++) {
    if (p > from && !value.readonly) body.append(gap(offsets[p], false));
    body.append(make("span", "", pieces[p]));
  }
  if (!last && !value.readonly) node.append(gap(stop, true));
  return node;
}

function head(value, i) {
  const head = make("div", "head");
  if (value.readonly) return head;
  head.append(make("b", "", i + 1), make("span", "", value.tokens[i] + " tokens"));
  const score = make("span", "score", value.scores[i].toFixed(2)), bar = make("i");
  score.title = "Score of the boundary before this block";
  bar.style.width = 100 * value.scores[i] + "%";
  score.append(bar);
  head.append(score);
  return head;
}

function show(value) {
  const kept = new Map(), list = [];
  value.starts.forEach((start, i) => {
    const stop = value.starts[i + 1] ?? -1;
    const key = [start, stop, value.tokens[i], value.readonly].join();
    const node = sections.get(key) || section(value, i, stop === -1);
    node.querySelector(".head").replaceWith(head(value, i));
    node.classList.toggle("marked", value.highlight === start);
    kept.set(key, node);
    list.push(node);
  });
  sections = kept;
  text.replaceChildren(...list);
  undo.hidden = !!value.readonly;
  undo.disabled = !value.edits;
  undo.textContent = value.edits ? `Undo (${value.edits})` : "Undo";
  status.textContent = value.summary;
  root.dataset.version = value.version;
  root.dataset.shown = value.starts.length;
  const marked = text.querySelector(".marked");
  if (marked) requestAnimationFrame(() => { text.scrollTop = marked.offsetTop - text.clientHeight / 4; });
  focusable(cursor);
}

async function load(value) {
  const mine = ++loading;
  if (!value?.doc) {
    doc = null;
    sections = new Map();
    undo.hidden = true;
    status.textContent = "";
    text.replaceChildren(make("p", "empty", value?.empty ?? ""));
    return;
  }
  if (value.doc !== doc) {
    const found = { pieces: [], offsets: [] };
    for (let first = 0; ; first += PAGE) {
      const page = await server.read_pieces({ workspace: value.workspace, doc: value.doc, first, n: PAGE });
      if (mine !== loading) return;             // another document was asked for meanwhile
      found.pieces.push(...page.pieces);
      found.offsets.push(...page.offsets);
      if (page.last) break;
    }
    ({ pieces, offsets } = found);
    [doc, sections, cursor] = [value.doc, new Map(), -1];
  }
  show(value);
}

function focusable(char) {
  const gaps = [...text.querySelectorAll(".gap")];
  const found = gaps.find((g) => +g.dataset.char === char) || gaps[0];
  gaps.forEach((g) => { if (g.tabIndex === 0) g.tabIndex = -1; });
  if (found) found.tabIndex = 0;
  return [gaps, gaps.indexOf(found)];
}

function toggle(button) {
  cursor = +button.dataset.char;
  const { doc, version } = props.value;
  trigger("toggle", { doc, version, char: cursor, add: !button.classList.contains("join") });
}

element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.classList.contains("gap")) toggle(button);
  if (button === undo) trigger("undo", { doc: props.value.doc });
});
element.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z" && !undo.disabled) {
    event.preventDefault();
    trigger("undo", { doc: props.value.doc });
  }
  const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
  if (step && event.target.classList.contains("gap")) {
    event.preventDefault();
    const [gaps, i] = focusable(+event.target.dataset.char);
    const next = gaps[Math.min(Math.max(i + step, 0), gaps.length - 1)];
    focusable(+next.dataset.char);
    next.focus();
  }
});
draw(load);

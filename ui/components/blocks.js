// A document cut into blocks. The text comes once, in pages, from the server; the value is only where blocks begin:
// {workspace, doc, length, version, starts, tokens, scores, added, edits, summary, hint}, or, for reading only,
// {workspace, doc, length, starts, highlight, summary}. Offsets are Python's (code points), so that pieces are never
// cut by JavaScript's UTF-16 indices.
const PAGE = 3000, LABEL = 48, SETTLING = 3;
let doc = null, version = -1, loading = 0, cursor = -1;
let pieces = [], offsets = [], sections = new Map();

const toolbar = make("div", "bar"), status = make("span", "status"), hint = make("span", "hint");
const undo = make("button", "undo", "Undo"), text = make("div", "text");
status.setAttribute("aria-live", "polite");
text.setAttribute("role", "region");
text.setAttribute("aria-label", "Blocks of the document");
toolbar.append(status, hint, undo);
root.replaceChildren(toolbar, text);

function split(starts, length) {                // makes every start the beginning of a piece
  const cut = { pieces: [], offsets: [] };
  let next = 0;
  pieces.forEach((piece, p) => {
    const from = offsets[p], stop = offsets[p + 1] ?? length, begins = [from];
    while (next < starts.length && starts[next] < stop) { if (starts[next] > from) begins.push(starts[next]); next++; }
    const points = begins.length > 1 && Array.from(piece);
    begins.forEach((begin, i) => {
      cut.offsets.push(begin);
      cut.pieces.push(points ? points.slice(begin - from, (begins[i + 1] ?? stop) - from).join("") : piece);
    });
  });
  ({ pieces, offsets } = cut);
}

function indexOf(char) {                        // of the last piece that begins at or before `char`
  let low = 0, high = offsets.length;
  while (high - low > 1) { const mid = (low + high) >> 1; if (offsets[mid] <= char) low = mid; else high = mid; }
  return low;
}

function gap(p, joins) {
  const button = make("button", joins ? "gap join" : "gap"), begin = pieces[p].trim().slice(0, LABEL);
  button.dataset.char = offsets[p];
  button.tabIndex = -1;
  button.title = joins ? "Merge with the next block" : "Begin a block here";
  button.setAttribute("aria-label", joins ? `Merge with the block “${begin}”` : `Begin a block at “${begin}”`);
  return button;
}

function section(start, stop, last, readonly) {
  const node = make("section", "block"), body = make("div", "body");
  const from = indexOf(start), to = last ? pieces.length : indexOf(stop);
  node.append(make("div", "head"), body);
  for (let p = from; p < to; p++) {
    if (p > from && !readonly) body.append(gap(p, false));
    const piece = make("span", "piece", pieces[p]);
    piece.char = offsets[p];
    body.append(piece);
  }
  if (!last && !readonly) node.append(gap(to, true));
  return node;
}

function head(value, i, added) {
  const head = make("div", "head");
  if (value.readonly) return head;
  head.append(make("b", "", i + 1), make("span", "", value.tokens[i] + " tokens"));
  if (added.has(value.starts[i])) head.append(make("span", "yours", "your boundary"));
  else if (i) {
    const score = make("span", "score", "score " + value.scores[i].toFixed(2)), bar = make("i");
    score.title = "Score of the boundary before this block";
    bar.style.width = 100 * value.scores[i] + "%";
    score.append(bar);
    head.append(score);
  }
  return head;
}

function show(value) {
  const kept = new Map(), list = [], added = new Set(value.added), place = value.readonly ? null : topmost();
  const focused = text.contains(document.activeElement);
  split(value.starts, value.length);
  value.starts.forEach((start, i) => {
    const last = i + 1 === value.starts.length, stop = last ? value.length : value.starts[i + 1];
    const key = start + "-" + stop;
    const node = sections.get(key) || section(start, stop, last, value.readonly);
    node.querySelector(".head").replaceWith(head(value, i, added));
    node.classList.toggle("marked", value.highlight === start);
    kept.set(key, node);
    list.push(node);
  });
  sections = kept;
  text.replaceChildren(...list);
  if (place) restore(place);
  const gaps = focusable(cursor);
  if (focused) gaps.find((g) => g.tabIndex === 0)?.focus({ preventScroll: true });
}

function topmost() {                            // the piece at the top of the view, and where it is
  const box = text.getBoundingClientRect();
  if (!text.scrollTop) return null;
  for (const node of text.children) {
    if (node.offsetTop + node.offsetHeight <= text.scrollTop) continue;
    for (const piece of node.querySelectorAll(".piece")) {
      const edge = piece.getBoundingClientRect();
      if (edge.bottom > box.top) return { char: piece.char, top: edge.top };
    }
  }
  return null;
}

function restore({ char, top }) {               // scrolls so that this piece is where it was
  const node = [...sections].find(([key]) => +key.split("-")[1] > char)[1];
  const piece = [...node.querySelectorAll(".piece")].findLast((p) => p.char <= char);
  const settle = (frames) => {                  // sections get their true heights only once they are in view
    if (!piece.isConnected) return;             // cut anew meanwhile
    text.scrollTop += piece.getBoundingClientRect().top - top;
    if (frames) requestAnimationFrame(() => settle(frames - 1));
  };
  settle(SETTLING);
}

function label(value) {
  undo.hidden = !!value.readonly;
  undo.disabled = !value.edits;
  undo.textContent = value.edits ? `Undo (${value.edits})` : "Undo";
  status.textContent = value.summary ?? "";
  hint.textContent = value.hint ?? "";
  toolbar.hidden = !value.doc;
  root.dataset.version = value.version ?? "";
  root.dataset.shown = value.starts?.length ?? 0;
}

async function fetchText({ workspace, doc }, mine) {
  const found = { pieces: [], offsets: [] };
  for (let first = 0; ; first += PAGE) {
    const page = await server.read_pieces({ workspace, doc, first, n: PAGE });
    if (mine !== loading) return null;          // another view was asked for meanwhile
    found.pieces.push(...page.pieces);
    found.offsets.push(...page.offsets);
    if (page.last) return found;
  }
}

async function load(received) {
  const mine = ++loading, value = { ...received, readonly: received?.version === undefined };
  if (!value.doc) {
    [doc, version, sections] = [null, -1, new Map()];
    text.replaceChildren(make("p", "empty", value.empty ?? ""));
    return label(value);
  }
  if (value.doc === doc && value.version < version) return; // overtaken by a newer cut
  if (value.doc !== doc) {
    const found = await fetchText(value, mine);
    if (!found) return;
    ({ pieces, offsets } = found);
    [doc, sections, cursor] = [value.doc, new Map(), -1];
    text.scrollTop = 0;
  }
  version = value.version ?? -1;
  show(value);
  label(value);
  const marked = text.querySelector(".marked");
  if (marked) requestAnimationFrame(() => { text.scrollTop = marked.offsetTop - text.clientHeight / 4; });
}

function focusable(char) {                      // one gap is a tab stop; arrow keys go from one to the next
  const gaps = [...text.querySelectorAll(".gap")], found = gaps.find((g) => +g.dataset.char === char) ?? gaps[0];
  for (const g of gaps) if (g.tabIndex === 0) g.tabIndex = -1;
  if (found) found.tabIndex = 0;
  return gaps;
}

element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button === undo) trigger("undo", { doc });
  if (!button?.classList.contains("gap")) return;
  cursor = +button.dataset.char;
  trigger("toggle", { doc, char: cursor, add: !button.classList.contains("join") });
});
element.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z" && !undo.disabled) {
    event.preventDefault();
    trigger("undo", { doc });
  }
  const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
  if (!step || !event.target.classList.contains("gap")) return;
  event.preventDefault();
  const gaps = focusable(+event.target.dataset.char), i = gaps.indexOf(event.target) + step;
  cursor = +gaps[Math.min(Math.max(i, 0), gaps.length - 1)].dataset.char;
  focusable(cursor).find((g) => g.tabIndex === 0).focus();
});
draw(load);

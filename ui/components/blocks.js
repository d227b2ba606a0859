// Draws a BlocksPayload (payloads.py). The text is fetched once, in pages; after that only the positions of blocks travel,
// with all lists as one JSON string in `lists`. Offsets count code points, so a piece is never cut by JavaScript's UTF-16
// indices. Blocks are grouped into parts of about 4,000 characters. Only parts near the view are in the page; the others
// are empty boxes of about the right height.
const PAGE = 3000, LABEL = 48, SETTLING = 3, NEAR = "1500px", PART = 4000, CHAR_PX = 7.2, LINE_PX = 26, EDGE = 24;
let collection = null, doc = null, version = -1, loading = 0, cursor = -1, shown = null;
let pieces = [], offsets = [], parts = new Map();

const toolbar = make("div", "bar"), status = make("span", "status"), cost = make("span", "cost"), hint = make("span", "hint");
const button = (name, label, description) => {
  const node = make("button", name, label);
  if (description) node.setAttribute("aria-label", description);
  return node;
};
const undo = button("undo", "Undo"), redo = button("redo", "Redo"), largest = button("largest", "Largest block");
const sizes = make("div", "sizes"), frame = make("div", "frame"), text = make("div", "text"), strip = make("canvas", "strip");
status.setAttribute("aria-live", "polite");
text.setAttribute("role", "region");
text.setAttribute("aria-label", "Blocks of the document");
text.tabIndex = 0;
strip.setAttribute("aria-hidden", "true");
sizes.setAttribute("role", "img");
toolbar.append(status, cost, hint, sizes, largest, undo, redo);
frame.append(text, strip);
root.replaceChildren(toolbar, frame);

function split(starts, length) {                // splits pieces so that every block starts with one
  const made = { pieces: [], offsets: [] };
  let next = 0;
  pieces.forEach((piece, p) => {
    const from = offsets[p], stop = offsets[p + 1] ?? length, begins = [from];
    while (next < starts.length && starts[next] < stop) { if (starts[next] > from) begins.push(starts[next]); next++; }
    const points = begins.length > 1 && Array.from(piece);
    begins.forEach((begin, i) => {
      made.offsets.push(begin);
      made.pieces.push(points ? points.slice(begin - from, (begins[i + 1] ?? stop) - from).join("") : piece);
    });
  });
  ({ pieces, offsets } = made);
}

function indexOf(char) {                        // of the last piece that starts at or before `char`
  let low = 0, high = offsets.length;
  while (high - low > 1) { const mid = (low + high) >> 1; if (offsets[mid] <= char) low = mid; else high = mid; }
  return low;
}

function gap(p, joins) {
  const button = make("button", joins ? "gap join" : "gap"), begin = pieces[p].trim().slice(0, LABEL);
  button.dataset.char = offsets[p];
  button.tabIndex = -1;
  button.title = joins ? "Merge with the next block" : "Start a block here";
  button.setAttribute("aria-label", joins ? `Merge with the block “${begin}”` : `Start a block at “${begin}”`);
  return button;
}

const near = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) isIntersecting ? fill(target) : empty(target);
}, { root: text, rootMargin: NEAR });

function spans({ starts, length }) {            // ranges of blocks, one range per part
  const found = [];
  for (let from = 0, i = 1; i <= starts.length; i++) {
    const ends = i === starts.length || Math.floor(starts[i] / PART) > Math.floor(starts[from] / PART);
    if (ends) { found.push([from, i]); from = i; }
  }
  return found;
}

function part(value, from, to) {                // an empty box; `fill` adds its blocks
  const node = make("div", "part"), { starts, tokens, length } = value, width = text.clientWidth, narrow = width < 600;
  const [head, edges] = !tokens ? [0, 0] : narrow ? [26, 46] : [87, 28], perLine = Math.max(20, (width - 150 * !narrow) / CHAR_PX);
  let height = 0;
  for (let i = from; i < to; i++) {
    const lines = LINE_PX * Math.ceil(((starts[i + 1] ?? length) - starts[i]) / perLine);
    height += edges + (narrow ? head + lines : Math.max(head, lines));
  }
  node.style.minHeight = height + "px";
  near.observe(node);
  return node;
}

function fill(node) {
  if (node.firstChild) return node;
  for (let i = node.from; i < node.to; i++) node.append(section(i));
  node.style.minHeight = "";
  return node;
}

function empty(node) {
  if (!node.firstChild || node.contains(document.activeElement)) return;
  node.style.minHeight = node.offsetHeight + "px";
  node.replaceChildren();
}

function section(i) {
  const node = make("section", "block"), body = make("div", "body"), last = i + 1 === shown.starts.length;
  const from = indexOf(shown.starts[i]), to = last ? pieces.length : indexOf(shown.starts[i + 1]);
  node.append(make("div", "head"), body);
  for (let p = from; p < to; p++) {
    if (p > from && !shown.readonly) body.append(gap(p, false));
    const piece = make("span", "piece", pieces[p]);
    piece.char = offsets[p];
    body.append(piece);
  }
  if (!last && !shown.readonly) node.append(gap(to, true));
  return renew(node, i);
}

function renew(node, i) {                       // updates a block whose text is unchanged
  node.firstChild.replaceWith(head(shown, i));
  node.classList.toggle("marked", shown.highlight === shown.starts[i]);
  node.classList.toggle("odd", i % 2 === 1);
  return node;
}

function head(value, i) {
  const head = make("div", "head"), start = value.starts[i];
  if (!value.tokens) return head;
  head.append(make("b", "", i + 1), make("span", "", value.tokens[i] + " tokens"));
  if (value.added?.includes(start)) head.append(make("span", "yours", "your boundary"));
  else if (value.differs?.includes(start)) head.append(make("span", "yours", "starts here only"));
  else if (i) {
    const score = make("span", "score", "score " + value.scores[i].toFixed(2)), bar = make("i");
    score.title = "Score of the boundary before this block";
    bar.style.width = 100 * value.scores[i] + "%";
    score.append(bar);
    head.append(score);
  }
  if (i && !value.readonly) {
    const moves = make("span", "moves");
    for (const [by, sign, direction] of [[-1, "▲", "earlier"], [1, "▼", "later"]]) {
      const node = button("move", sign, `Move the start of block ${i + 1} ${direction}`);
      node.title = node.ariaLabel;
      Object.assign(node.dataset, { from: start, by });
      moves.append(node);
    }
    const grip = make("span", "grip", "⠿");      // for pointers; the buttons serve keyboards
    grip.title = "Drag the start of this block";
    grip.dataset.from = start;
    grip.setAttribute("aria-hidden", "true");
    moves.firstChild.after(grip);
    head.append(moves);
  }
  return head;
}

function show(value) {
  const kept = new Map(), anchor = value.readonly ? null : topmost();
  const focused = text.contains(document.activeElement) && document.activeElement !== text;
  shown = value;
  split(value.starts, value.length);
  for (const [from, to] of spans(value)) {
    const key = [...value.starts.slice(from, to), value.starts[to] ?? value.length].join();
    const node = parts.get(key) || part(value, from, to);
    Object.assign(node, { from, to });
    [...node.children].forEach((block, k) => renew(block, from + k));
    kept.set(key, node);
  }
  for (const [key, node] of parts) if (!kept.has(key)) near.unobserve(node);
  parts = kept;
  text.replaceChildren(...kept.values());
  if (anchor) restore(anchor);
  fillView();
  const gaps = focusable(cursor);
  if (focused) gaps.find((g) => g.tabIndex === 0)?.focus({ preventScroll: true });
  drawSizes(value);
  drawStrip();
}

function fillView() {                           // parts in view, without waiting for the observer
  let { firstElementChild: node } = text;
  while (node && node.offsetTop + node.offsetHeight < text.scrollTop) node = node.nextElementSibling;
  while (node && node.offsetTop <= text.scrollTop + text.clientHeight) node = fill(node).nextElementSibling;
}

function drawSizes(value) {                     // histogram of block sizes
  sizes.replaceChildren();
  sizes.hidden = largest.hidden = !value.tokens || value.readonly || value.tokens.length < 2;
  if (sizes.hidden) return;
  const most = largestOf(value.tokens), bins = new Array(24).fill(0);
  for (const n of value.tokens) bins[Math.min(23, Math.floor((24 * n) / (most + 1)))]++;
  const highest = Math.max(...bins);
  bins.forEach((n, i) => {
    const bar = make("i");
    bar.style.height = (n ? Math.max(8, (100 * n) / highest) : 0) + "%";
    bar.title = `${Math.round((i * most) / 24)} to ${Math.round(((i + 1) * most) / 24)} tokens: ${n} blocks`;
    sizes.append(bar);
  });
  sizes.setAttribute("aria-label", `Sizes of the blocks, from 1 to ${most} tokens`);
}

const largestOf = (numbers) => numbers.reduce((a, b) => Math.max(a, b), 0);

function drawStrip() {                          // boundary scores along the document, and the part in view
  const profile = shown?.profile, height = text.clientHeight, width = 44;
  strip.hidden = !profile;
  if (!profile || !height) return;
  const scale = window.devicePixelRatio || 1, style = getComputedStyle(root), draw = strip.getContext("2d");
  strip.width = width * scale;
  strip.height = height * scale;
  strip.style.height = height + "px";
  draw.scale(scale, scale);
  draw.fillStyle = style.getPropertyValue("--border-color-primary");
  const top = (text.scrollTop / text.scrollHeight) * height, part = (height / text.scrollHeight) * height;
  draw.fillRect(0, top, width, Math.max(part, 3));
  draw.fillStyle = style.getPropertyValue("--body-text-color-subdued");
  const step = height / profile.length;
  profile.forEach((score, i) => draw.fillRect(width - 8 - (score / 100) * 34, i * step, (score / 100) * 34, Math.max(step - 0.5, 0.6)));
  draw.fillStyle = style.getPropertyValue("--color-accent");
  const rows = new Set(shown.starts.map((start) => Math.round((start / shown.length) * height)));
  for (const y of rows) if (y) draw.fillRect(width - 6, y, 6, 1);
}

function sectionAt(char) {                      // the element of the block that contains this character
  const { starts } = shown;
  let node = text.firstElementChild;
  while (node.nextElementSibling && starts[node.to] <= char) node = node.nextElementSibling;
  return [...fill(node).children].findLast((_, k) => starts[node.from + k] <= char);
}

function jump(char) {
  const node = sectionAt(char);
  text.scrollTop = node.offsetTop;
  requestAnimationFrame(() => { text.scrollTop = node.offsetTop; });
}

function topmost() {                            // the piece at the top of the view, and its position
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

function restore({ char, top }) {               // scrolls this piece back to its position
  const piece = [...sectionAt(char).querySelectorAll(".piece")].findLast((p) => p.char <= char);
  const settle = (frames) => {                  // parts get their true heights once they are near the view
    if (!piece?.isConnected) return;            // redrawn meanwhile
    text.scrollTop += piece.getBoundingClientRect().top - top;
    if (frames) requestAnimationFrame(() => settle(frames - 1));
  };
  settle(SETTLING);
}

function label(value) {
  undo.hidden = redo.hidden = !!value.readonly;
  undo.disabled = !value.edits;
  redo.disabled = !value.redo;
  undo.textContent = value.edits ? `Undo (${value.edits})` : "Undo";
  redo.textContent = value.redo ? `Redo (${value.redo})` : "Redo";
  status.textContent = value.summary ?? "";
  cost.textContent = value.cost ?? "";
  hint.textContent = value.hint ?? "";
  toolbar.hidden = !value.doc;
  root.dataset.version = value.version ?? "";
  root.dataset.granularity = value.granularity ?? "";
  root.dataset.blocks = value.starts?.length ?? 0;
}

async function fetchText({ collection, doc }, mine) {
  const found = { pieces: [], offsets: [] };
  for (let first = 0; ; first += PAGE) {
    const page = await server.read_pieces({ collection, doc, first, n: PAGE });
    if (mine !== loading) return null;          // a newer view replaced this one
    found.pieces.push(...page.pieces);
    found.offsets.push(...page.offsets);
    if (page.last) return found;
  }
}

async function load(received) {
  const mine = ++loading, value = { ...received, ...JSON.parse(received?.lists ?? "{}") };
  value.readonly = value.version === undefined;
  if (!value.doc) {
    [doc, version, parts, shown] = [null, -1, new Map(), null];
    strip.hidden = sizes.hidden = true;
    text.replaceChildren(make("p", "empty", value.empty ?? ""));
    return label(value);
  }
  if (value.collection !== collection) [collection, doc, version] = [value.collection, null, -1]; // another collection
  if (value.doc === doc && value.version < version) return; // older than what is drawn
  if (value.doc !== doc) {
    const found = await fetchText(value, mine);
    if (!found) return;
    ({ pieces, offsets } = found);
    [doc, parts, cursor] = [value.doc, new Map(), -1];
    text.scrollTop = 0;
    text.replaceChildren();
  }
  version = value.version ?? -1;
  show(value.tokens ? value : { ...value, starts: foldable(value) });
  label(value);
  if (value.highlight === undefined) return;
  const marked = sectionAt(value.highlight);
  requestAnimationFrame(() => { text.scrollTop = marked.offsetTop - text.clientHeight / 4; });
}

function foldable({ starts, highlight }) {      // where a read-only text can be split into parts invisibly
  const marked = starts.indexOf(highlight), stop = starts[marked + 1] ?? Infinity, found = new Set(starts);
  let before = 0;
  offsets.forEach((char, p) => {
    if (char - before < PART || !pieces[p - 1].endsWith("\n") || (char > highlight && char < stop)) return;
    found.add(before = char);
  });
  return [...found].sort((a, b) => a - b);
}

function focusable(char) {                      // one gap is the tab stop; arrow keys move between gaps
  const gaps = [...text.querySelectorAll(".gap")], found = gaps.find((g) => +g.dataset.char === char) ?? gaps[0];
  for (const g of gaps) if (g.tabIndex === 0) g.tabIndex = -1;
  if (found) found.tabIndex = 0;
  return gaps;
}

element.addEventListener("click", (event) => {
  const clicked = event.target.closest("button");
  if (clicked === undo) trigger("undo", { doc });
  if (clicked === redo) trigger("redo", { doc });
  if (clicked === largest) {
    jump(shown.starts[shown.tokens.indexOf(largestOf(shown.tokens))]);
  }
  if (clicked?.classList.contains("move")) trigger("move", { doc, char: +clicked.dataset.from, by: +clicked.dataset.by });
  if (!clicked?.classList.contains("gap")) return;
  cursor = +clicked.dataset.char;
  trigger("toggle", { doc, char: cursor, add: !clicked.classList.contains("join") });
});
let held = null;                                // the boundary being dragged: {from, node, to}
function aim(node) {
  held.node?.classList.remove("target");
  node?.classList.add("target");
  Object.assign(held, { node, to: node?.char ?? +node?.dataset.char });
}
text.addEventListener("pointerdown", (event) => {
  const grip = event.target.closest(".grip");
  if (!grip) return;
  event.preventDefault();
  text.setPointerCapture(event.pointerId);
  held = { from: +grip.dataset.from };
});
text.addEventListener("pointermove", ({ clientX, clientY }) => {
  if (!held) return;
  const { top, bottom } = text.getBoundingClientRect(), node = document.elementFromPoint(clientX, clientY)?.closest(".piece, .gap");
  if (clientY < top + EDGE || clientY > bottom - EDGE) text.scrollTop += clientY < top + EDGE ? -EDGE : EDGE;
  aim(text.contains(node) ? node : null);
});
for (const ended of ["pointerup", "pointercancel"]) text.addEventListener(ended, () => {
  if (!held) return;
  const { from: char, to, node } = held;
  aim(null);
  held = null;
  if (ended === "pointerup" && node && to !== char) trigger("drop", { doc, char, to });
});
strip.addEventListener("click", (event) => {
  jump(Math.floor((event.offsetY / strip.clientHeight) * shown.length));
});
text.addEventListener("scroll", () => requestAnimationFrame(drawStrip), { passive: true });
new ResizeObserver(() => drawStrip()).observe(text);
element.addEventListener("keydown", (event) => {
  const key = event.key.toLowerCase(), command = event.ctrlKey || event.metaKey;
  if (command && (key === "y" || (key === "z" && event.shiftKey)) && !redo.disabled) {
    event.preventDefault();
    trigger("redo", { doc });
  } else if (command && key === "z" && !event.shiftKey && !undo.disabled) {
    event.preventDefault();
    trigger("undo", { doc });
  }
  const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
  if (!step || !event.target.classList.contains("gap")) return;
  event.preventDefault();
  if (event.altKey && event.target.classList.contains("join")) {
    trigger("move", { doc, char: +event.target.dataset.char, by: step });
    return;
  }
  const within = event.target.closest(".part"), beside = step > 0 ? within.nextElementSibling : within.previousElementSibling;
  if (beside) fill(beside);
  const gaps = focusable(+event.target.dataset.char), i = gaps.indexOf(event.target) + step;
  cursor = +gaps[Math.min(Math.max(i, 0), gaps.length - 1)].dataset.char;
  focusable(cursor).find((g) => g.tabIndex === 0).focus();
});
draw(load);

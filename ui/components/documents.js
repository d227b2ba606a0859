// Draws a DocumentsPayload (payloads.py).
const search = make("input", "search"), order = make("select", "order"), tools = make("div", "tools");
const list = make("ul", "rows"), notices = make("p", "notices"), none = make("p", "empty");
const ORDERS = {
  "In order of adding": () => 0,
  "By name": (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }),
  "Latest first": () => 0,
  "Largest first": (a, b) => b.length - a.length,
  "By type": (a, b) => a.kind.localeCompare(b.kind),
};
let rows = [], chosen = [];
search.type = "search";
search.placeholder = "Search documents by name";
search.setAttribute("aria-label", search.placeholder);
order.setAttribute("aria-label", "Order of the documents");
order.append(...Object.keys(ORDERS).map((name) => make("option", "", name)));
notices.setAttribute("role", "status");
tools.append(search, order);
root.replaceChildren(tools, notices, list, none);

const filter = () => {
  const wanted = search.value.trim().toLowerCase();
  for (const item of list.children) item.hidden = !!wanted && !item.dataset.name.includes(wanted);
};

function remover(row) {                         // asks before it removes
  const node = make("button", "remove"), label = (sign, words) => {
    node.textContent = sign;
    node.setAttribute("aria-label", `${words} ${row.name}`);
  };
  node.title = "Remove";
  label("×", "Remove");
  node.onclick = () => {
    if (node.classList.contains("sure")) return trigger("remove", { doc: row.id });
    node.classList.add("sure");
    label("Remove?", "Really remove");
    setTimeout(() => {
      node.classList.remove("sure");
      label("×", "Remove");
    }, 4000);
  };
  return node;
}

function chooser(row) {
  const node = make("input", "choose");
  node.type = "checkbox";
  node.checked = chosen.includes(row.id);
  node.disabled = !row.choosable;
  node.setAttribute("aria-label", "Ask " + row.name);
  node.onchange = () => {
    chosen = node.checked ? [...chosen, row.id] : chosen.filter((id) => id !== row.id);
    trigger("choose", { docs: chosen });
  };
  return node;
}

function draw_row(row) {
  const item = make("li", row.failed ? "row failed" : row.busy ? "row busy" : "row"), about = make("span", "about");
  const name = make("b", "name", row.name);
  item.dataset.name = row.name.toLowerCase();
  name.title = row.name;
  about.append(make("span", "state", row.state));
  if (row.size) about.append(make("span", "size", [row.kind, row.size].filter(Boolean).join(", ")));
  item.append(chooser(row), name, about);
  if (row.notes.length) {
    const notes = make("details", "notes"), all = make("ul", "");
    notes.append(make("summary", "", row.notes.length === 1 ? "1 note" : row.notes.length + " notes"), all);
    all.append(...row.notes.map((note) => make("li", "", note)));
    item.append(notes);
  }
  item.append(remover(row));
  return item;
}

function draw_rows() {
  const focused = document.activeElement?.getAttribute("aria-label"), within = list.contains(document.activeElement);
  const sorted = order.value === "Latest first" ? rows.toReversed() : rows.toSorted(ORDERS[order.value]);
  list.replaceChildren(...sorted.map(draw_row));
  if (within) [...list.querySelectorAll("input, button")].find((node) => node.ariaLabel === focused)?.focus({ preventScroll: true });
  filter();
}

search.addEventListener("input", filter);
order.addEventListener("change", draw_rows);
draw((value) => {
  rows = value?.rows ?? [];
  chosen = value?.chosen ?? [];
  tools.hidden = rows.length < 6;
  list.hidden = !rows.length;
  none.hidden = !!rows.length;
  none.textContent = value?.empty ?? "";
  notices.textContent = (value?.notices ?? []).join(" ");
  root.dataset.waiting = value?.waiting ?? 0;
  draw_rows();
});

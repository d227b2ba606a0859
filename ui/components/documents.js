// Draws a DocumentsPayload (payloads.py).
const search = make("input", "search"), list = make("ul", "rows"), notices = make("p", "notices"), none = make("p", "empty");
search.type = "search";
search.placeholder = "Search documents by name";
search.setAttribute("aria-label", search.placeholder);
notices.setAttribute("role", "status");
root.replaceChildren(search, notices, list, none);
const filter = () => {
  const wanted = search.value.trim().toLowerCase();
  for (const item of list.children) item.hidden = !!wanted && !item.dataset.name.includes(wanted);
};
search.addEventListener("input", filter);
draw((value) => {
  const rows = value?.rows ?? [];
  search.hidden = rows.length < 6;
  list.hidden = !rows.length;
  none.hidden = !!rows.length;
  none.textContent = value?.empty ?? "";
  notices.textContent = (value?.notices ?? []).join(" ");
  root.dataset.waiting = value?.waiting ?? 0;
  list.replaceChildren(...rows.map((row) => {
    const item = make("li", row.failed ? "row failed" : row.busy ? "row busy" : "row");
    item.dataset.name = row.name.toLowerCase();
    const name = make("b", "name", row.name), about = make("span", "about");
    name.title = row.name;
    about.append(make("span", "state", row.state));
    if (row.size) about.append(make("span", "size", [row.kind, row.size].filter(Boolean).join(", ")));
    item.append(name, about);
    if (row.notes.length) {
      const notes = make("details", "notes"), all = make("ul", "");
      notes.append(make("summary", "", row.notes.length === 1 ? "1 note" : row.notes.length + " notes"), all);
      all.append(...row.notes.map((note) => make("li", "", note)));
      item.append(notes);
    }
    if (row.id) {
      const remove = make("button", "remove", "×");
      remove.title = "Remove";
      remove.setAttribute("aria-label", "Remove " + row.name);
      remove.onclick = () => {                    // asks before it removes
        if (remove.classList.contains("sure")) return trigger("remove", { doc: row.id });
        remove.classList.add("sure");
        remove.textContent = "Remove?";
        remove.setAttribute("aria-label", "Really remove " + row.name);
        setTimeout(() => {
          remove.classList.remove("sure");
          remove.textContent = "×";
          remove.setAttribute("aria-label", "Remove " + row.name);
        }, 4000);
      };
      item.append(remove);
    }
    return item;
  }));
  filter();
});

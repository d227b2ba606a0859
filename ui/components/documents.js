// {empty, rows: [{id, name, kind, size, state, failed}]}; a row without an id is no document, or not yet.
draw((value) => {
  const rows = value?.rows ?? [];
  if (!rows.length) return root.replaceChildren(make("p", "empty", value?.empty ?? ""));
  const list = make("ul", "rows");
  for (const row of rows) {
    const item = make("li", row.failed ? "row failed" : row.id ? "row" : "row busy");
    item.append(make("b", "name", row.name), make("span", "kind", row.kind), make("span", "size", row.size));
    item.append(make("span", "state", row.state));
    if (row.id) {
      const remove = make("button", "remove", "×");
      remove.title = "Remove";
      remove.setAttribute("aria-label", "Remove " + row.name);
      remove.onclick = () => trigger("remove", { doc: row.id });
      item.append(remove);
    }
    list.append(item);
  }
  root.replaceChildren(list);
});

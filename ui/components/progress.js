// {empty, rows: [{name, stage, done, total, reused, state}]}
draw((value) => {
  const rows = value?.rows ?? [];
  if (!rows.length) return root.replaceChildren(make("p", "empty", value?.empty ?? ""));
  root.replaceChildren(...rows.map((row) => {
    const node = make("div", "row " + row.state), top = make("div", "top"), bar = make("div", "track"), fill = make("div", "fill");
    top.append(make("b", "", row.name), make("span", "", row.text));
    fill.style.width = (row.total ? (100 * row.done) / row.total : 0) + "%";
    bar.setAttribute("role", "progressbar");
    bar.setAttribute("aria-valuenow", row.done);
    bar.setAttribute("aria-valuemax", row.total);
    bar.setAttribute("aria-label", row.name);
    bar.append(fill);
    node.append(top, bar);
    return node;
  }));
});

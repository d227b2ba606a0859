// Draws a TablesPayload (payloads.py).
draw((value) => {
  const tables = value?.tables ?? [];
  if (!tables.length) return root.replaceChildren(make("p", "empty", value?.empty ?? ""));
  root.replaceChildren(...tables.map((table) => {
    const figure = make("figure", "card"), caption = make("figcaption"), node = make("table"), head = make("tr");
    caption.append(make("b", "", table.title), make("span", "", table.machine));
    for (const cell of table.head) {
      const column = make("th", "", cell);
      column.scope = "col";
      head.append(column);
    }
    node.append(head);
    for (const row of table.rows) {
      const line = make("tr");
      row.forEach((cell) => line.append(make("td", "", cell)));
      node.append(line);
    }
    figure.append(caption, node);
    if (value.busy) figure.append(make("p", "busy", "measuring …"));
    return figure;
  }));
});

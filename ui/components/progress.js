// Draws a ProgressPayload (payloads.py).
const TIERS = { device: "#8e7cc3", host: "#3d85c6", memory: "#2e7d9e", disk: "#b7791f", remote: "#9b5b4f" };
draw((value) => {
  const rows = value?.rows ?? [];
  if (!rows.length) return root.replaceChildren(make("p", "empty", value?.empty ?? ""));
  root.replaceChildren(...rows.map((row) => {
    const node = make("div", "row " + row.state), top = make("div", "top"), bar = make("div", "track"), fill = make("div", "fill");
    top.append(make("b", "", row.name), make("span", "", row.text));
    fill.style.width = (row.total ? (100 * row.done) / row.total : 0) + "%";
    bar.setAttribute("role", "progressbar");
    bar.setAttribute("aria-valuemin", 0);
    bar.setAttribute("aria-valuenow", row.done);
    bar.setAttribute("aria-valuemax", row.total);
    bar.setAttribute("aria-label", row.name);
    bar.append(fill);
    node.append(top, bar);
    if (row.cells?.length) {
      const cells = make("div", "cells");
      cells.setAttribute("aria-hidden", "true");
      row.cells.forEach((tier, i) => {
        const cell = make("i");
        cell.style.background = TIERS[tier] ?? "var(--border-color-primary)";
        cell.title = `Block ${i + 1}: ${tier || "no KV"}`;
        cells.append(cell);
      });
      node.append(cells);
    }
    return node;
  }));
});

// Draws a KVCachePayload (payloads.py).
const COLOURS = ["#2e7d9e", "#b7791f", "#8e5ab5", "#9b5b4f"], WIDTH = 520, HEIGHT = 150, LEFT = 46, BOTTOM = 20;
const svg = (tag, attributes, text) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
};
const plot = (title, named, unit) => {
  const lines = Object.entries(named).map(([name, points]) => ({ name, points }));
  const figure = make("figure", "plot"), caption = make("figcaption", "", title), legend = make("div", "legend");
  const most = Math.max(1e-9, ...lines.flatMap((line) => line.points.map((p) => p[1])));
  const oldest = Math.min(-60, ...lines.flatMap((line) => line.points.map((p) => p[0])));
  const x = (t) => LEFT + ((t - oldest) / -oldest) * (WIDTH - LEFT - 8), y = (v) => HEIGHT - BOTTOM - (v / most) * (HEIGHT - BOTTOM - 10);
  const summary = lines.map((line) => `${line.name} ${(line.points.at(-1)?.[1] ?? 0).toFixed(0)} ${unit}`).join(", ");
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}: now ${summary}` });
  for (const part of [0, 0.5, 1]) {
    drawing.append(svg("line", { x1: LEFT, x2: WIDTH - 8, y1: y(part * most), y2: y(part * most), class: "grid" }));
    drawing.append(svg("text", { x: LEFT - 6, y: y(part * most) + 4, "text-anchor": "end" }, (part * most).toFixed(most < 5 ? 1 : 0)));
  }
  drawing.append(svg("text", { x: LEFT, y: HEIGHT - 4 }, `${Math.round(-oldest / 60)} min ago`));
  drawing.append(svg("text", { x: WIDTH - 8, y: HEIGHT - 4, "text-anchor": "end" }, "now"));
  lines.forEach((line, i) => {
    const points = line.points.map(([t, v]) => `${x(t).toFixed(1)},${y(v).toFixed(1)}`).join(" ");
    drawing.append(svg("polyline", { points, fill: "none", stroke: COLOURS[i % 4], "stroke-width": 2 }));
    const item = make("span", "", `${line.name}: ${(line.points.at(-1)?.[1] ?? 0).toLocaleString("en", { maximumFractionDigits: 1 })} ${unit}`), dot = make("i");
    dot.style.background = COLOURS[i % 4];
    item.prepend(dot);
    legend.append(item);
  });
  figure.append(caption, drawing, legend);
  return figure;
};
draw((value) => {
  const tiers = value?.tiers ?? [];
  if (!tiers.length) return root.replaceChildren(make("p", "empty", value?.empty ?? ""));
  const cards = make("div", "cards"), plots = make("div", "plots");
  for (const tier of tiers) {
    const card = make("div", "tier");
    card.append(make("b", "", tier.name), make("span", "", tier.text));
    if (tier.budget !== null) {
      const bar = make("div", "track"), fill = make("div", "fill");
      fill.style.width = (tier.budget ? Math.min(100, (100 * tier.used) / tier.budget) : 0) + "%";
      bar.setAttribute("role", "meter");
      bar.setAttribute("aria-label", `${tier.name}: ${tier.text}`);
      bar.setAttribute("aria-valuemin", 0);
      bar.setAttribute("aria-valuemax", tier.budget);
      bar.setAttribute("aria-valuenow", tier.used);
      bar.append(fill);
      card.append(bar);
    }
    if (tier.blocks !== null) card.append(make("small", "", `${tier.blocks} block${tier.blocks === 1 ? "" : "s"}, ${tier.mine} of this collection's ${value.n_mine}`));
    card.append(make("small", "", `${tier.hits} hits, ${tier.evicted} evicted since startup`));
    cards.append(card);
  }
  plots.append(plot("KV in each tier", value.nbytes, "MB"), plot("Lookups since startup", value.counts, ""));
  root.replaceChildren(cards, plots);
});

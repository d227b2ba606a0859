// Draws a TimesPayload (payloads.py). The line under each bar extends to when the answer was done.
const COLOURS = { retrieval: "#8e7cc3", "KV load": "#3d85c6", encode: "#e69138", assembly: "#45a29e", prefill: "#cc4125" };
const time = (ms) => (ms < 1000 ? ms.toFixed(0) + " ms" : (ms / 1000).toFixed(2) + " s");
draw((value) => {
  const bars = value?.bars ?? [];
  root.hidden = !bars.length;
  if (!bars.length) return root.replaceChildren();
  const longest = Math.max(...bars.map((bar) => bar.total), 1);
  const chart = make("div", "chart");
  for (const bar of bars) {
    const track = make("div", "track");
    for (const [stage, ms] of Object.entries(bar.stages)) {
      const part = make("div", "part");
      part.style.width = (100 * ms) / longest + "%";
      part.style.background = COLOURS[stage];
      part.title = `${stage}: ${time(ms)}`;
      track.append(part);
    }
    const writing = make("div", "writing"), until = Math.max(...bars.map((b) => b.done ?? 0), 1);
    if (bar.done) {
      const first = make("i", "first"), rest = make("i", "rest");
      first.style.width = (100 * bar.total) / until + "%";
      rest.style.width = (100 * (bar.done - bar.total)) / until + "%";
      writing.append(first, rest);
      writing.title = `first token after ${time(bar.total)}, done after ${time(bar.done)}`;
    }
    const lane = make("div", "lane");
    lane.append(track, writing);
    if (bar.done) lane.append(make("small", "", `done after ${time(bar.done)}`));
    chart.append(make("span", "name", bar.name), lane, make("span", "total", bar.pending ? "measuring …" : time(bar.total)));
  }
  const legend = make("div", "legend");
  const used = new Set(bars.flatMap((bar) => Object.keys(bar.stages).filter((stage) => bar.stages[stage] >= 0.5)));
  for (const name of Object.keys(COLOURS).filter((name) => used.has(name))) {
    const item = make("span", "", name), dot = make("i");
    dot.style.background = COLOURS[name];
    item.prepend(dot);
    legend.append(item);
  }
  chart.setAttribute("role", "img");
  chart.setAttribute("aria-label", bars.map((bar) => `${bar.name}: first token after ${time(bar.total)}`).join("; "));
  root.replaceChildren(make("h4", "", value.headline), make("p", "", value.detail), chart, legend);
});

// Draws a SourcesPayload (payloads.py).
draw((value) => {
  const sources = value?.sources ?? [];
  const left_out = (value?.excluded ?? []).map((block) => {
    const node = make("p", "left-out"), restore = make("button", "mark", "Restore");
    restore.setAttribute("aria-label", "Restore " + block.name);
    restore.onclick = () => trigger("restore", { doc: block.doc, start: block.start });
    node.append(make("span", "", "Excluded: " + block.name), restore);
    return node;
  });
  if (!sources.length) return root.replaceChildren(...left_out, make("p", "empty", value?.empty ?? ""));
  root.replaceChildren(...left_out, ...sources.map((source) => {
    const item = make("div", "item" + (source.excluded ? " excluded" : ""));
    const card = make("button", "card" + (source.number === value.selected ? " selected" : "")), top = make("span", "top");
    top.append(make("i", "", source.number), make("b", "", source.title));
    if (source.badge) top.append(make("em", "", source.badge));
    card.append(top, make("small", "", source.detail), make("span", "excerpt", source.text));
    card.setAttribute("aria-label", `Show source ${source.number} in ${source.title}`);
    card.onclick = () => trigger("show", { number: source.number });
    const marks = make("div", "marks");
    for (const [action, on, label, done] of [["pin", source.pinned, "Pin", "Pinned ✓"], ["exclude", source.excluded, "Exclude", "Excluded ✓"]]) {
      const mark = make("button", "mark", on ? done : label);
      mark.setAttribute("aria-pressed", on ? "true" : "false");
      mark.setAttribute("aria-label", `${label} source ${source.number} for the next question`);
      mark.onclick = () => trigger("mark", { number: source.number, action });
      marks.append(mark);
    }
    item.append(card, marks);
    return item;
  }));
});

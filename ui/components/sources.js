// Draws a SourcesPayload (payloads.py).
draw((value) => {
  const sources = value?.sources ?? [];
  if (!sources.length) return root.replaceChildren(make("p", "empty", value?.empty ?? ""));
  root.replaceChildren(...sources.map((source) => {
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

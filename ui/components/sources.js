// {empty, sources: [{number, title, detail, badge, text}], shown}
draw((value) => {
  const sources = value?.sources ?? [];
  if (!sources.length) return root.replaceChildren(make("p", "empty", value?.empty ?? ""));
  root.replaceChildren(...sources.map((source) => {
    const card = make("button", "card" + (source.number === value.shown ? " shown" : "")), top = make("div", "top");
    top.append(make("i", "", source.number), make("b", "", source.title));
    if (source.badge) top.append(make("em", "", source.badge));
    card.append(top, make("small", "", source.detail), make("p", "", source.text));
    card.setAttribute("aria-label", `Show source ${source.number} in ${source.title}`);
    card.onclick = () => trigger("show", { number: source.number });
    return card;
  }));
});

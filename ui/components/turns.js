// Draws a TurnsPayload (payloads.py).
draw((value) => {
  const turns = value?.turns ?? [], parts = [];
  if (value?.saved) parts.push(make("p", "saved", value.saved));
  if (!turns.length) parts.push(make("p", "empty", value?.empty ?? ""));
  for (const turn of turns) {
    const node = make("button", "turn");
    node.append(make("b", "", turn.question), make("span", "", turn.answer));
    node.onclick = () => trigger("recall", { turn: turn.id });
    parts.push(node);
  }
  root.replaceChildren(...parts);
});

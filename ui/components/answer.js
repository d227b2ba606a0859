// Draws an AnswerPayload (payloads.py).
draw((value) => {
  if (!value?.title) return root.replaceChildren(make("p", "empty", value?.empty ?? ""));
  const title = make("div", "title"), body = make("div", "body"), points = Array.from(value.text);
  title.append(make("b", "", value.title), make("span", "", value.status));
  let shown = 0;
  for (const [end, number] of value.citations ?? []) {
    body.append(make("span", "", points.slice(shown, end).join("").trimEnd()));
    const mark = make("button", "cite", number);
    mark.setAttribute("aria-label", "Source " + number);
    mark.onclick = () => trigger("cite", { number });
    body.append(mark, document.createTextNode(end < points.length ? " " : ""));
    shown = end;
  }
  body.append(make("span", "", points.slice(shown).join("")));
  body.firstChild.textContent = body.firstChild.textContent.trimStart();
  if (value.busy) body.append(make("span", "caret"));
  root.replaceChildren(title, body);
});

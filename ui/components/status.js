// Draws a StatusPayload (payloads.py): what is being done for the collection.
const text = make("span", "text"), act = make("button", "act");
text.setAttribute("role", "status");
root.replaceChildren(text, act);
draw((value) => {
  root.hidden = !value?.text;
  text.textContent = value?.text ?? "";
  act.textContent = value?.label ?? "";
  act.hidden = !value?.action;
  act.onclick = () => (value.action === "stop" ? trigger("stop", {}) : trigger("resume", {}));
});

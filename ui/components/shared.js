// Prepended to every component's script. Gradio provides `element`, `props`, `watch`, `trigger` and `server`.
const root = element.querySelector("[data-root]");
const make = (tag, name, text) => {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
};
const draw = (render) => {
  const now = () => render(props.value);
  watch("value", now);
  now();
};

// Draws a PagePayload (payloads.py).
const picture = make("img"), caption = make("p", "caption");
draw((value) => {
  root.hidden = !value?.image;
  if (root.hidden) return root.replaceChildren();
  picture.src = value.image;
  picture.alt = caption.textContent = value.caption;
  root.replaceChildren(caption, picture);
});

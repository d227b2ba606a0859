"""Addresses of tabs, collections, conversations and documents: links, reloads and the browser's buttons work.

A number in an address is no secret: it opens only what is the visitor's own.
"""

FOLLOW = """() => {
  const tabs = () => [...document.querySelectorAll("#steps [role=tab], #steps .overflow-dropdown button")];
  const name = (tab) => tab.textContent.trim().toLowerCase();
  const named = () => new URLSearchParams(location.search).get("tab") ?? "ask";
  const show = () => tabs().find((tab) => name(tab) === named() && tab.ariaSelected !== "true")?.click();
  document.querySelector("#steps").addEventListener("click", (event) => {
    const tab = event.target.closest("[role=tab], .overflow-dropdown button");
    if (!tab || !event.isTrusted || name(tab) === named()) return;
    const url = new URL(location);
    url.searchParams.set("tab", name(tab));
    history.pushState(null, "", url);
  });
  addEventListener("popstate", () => {
    const given = new URLSearchParams(location.search), { place } = document.documentElement.dataset;
    if (place && place !== ["collection", "conversation", "document"].map((key) => given.get(key) ?? "").join()) {
      location.reload();
    } else show();
  });
  show();
}"""
"""Shows the tab of the address, and gives each tab one."""

READ = """(visitor, former) => {
  const given = new URLSearchParams(location.search), number = (key) => Number(given.get(key)) || 0;
  const open = { collection: number("collection"), conversation: number("conversation"), linked: 1 };
  document.documentElement.dataset.place = "";
  return [{ ...visitor, document: given.get("document") ?? "", ...(given.has("collection") && open) }, former];
}"""
"""Adds what the address names to what the browser keeps."""

_WRITE = """
  const url = new URL(location), before = Object.fromEntries(url.searchParams);
  for (const key in now) now[key] ? url.searchParams.set(key, now[key]) : url.searchParams.delete(key);
  const after = Object.fromEntries(url.searchParams), place = ["collection", "conversation", "document"];
  document.documentElement.dataset.place = place.map((key) => after[key] ?? "").join();
  const is_new = place.some((key) => before[key] && before[key] !== after[key]) || (after.document && !before.document);
  if (url.href !== location.href) history[is_new ? "pushState" : "replaceState"](null, "", url);
}"""

WRITE_OPEN = f"""(visitor) => {{
  if (document.documentElement.dataset.place === undefined) return;  // the address is not read yet
  const now = {{ collection: String(visitor?.collection || ""), conversation: visitor?.conversation }};
  const known = new URLSearchParams(location.search).get("collection");
  if (known && known !== now.collection) now.document = "";
  {_WRITE}"""
"""Writes the open collection and conversation into the address."""

WRITE_DOCUMENT = f"""(document_id) => {{
  const now = {{ document: document_id }};
  {_WRITE}"""
"""Writes the document of the tab Blocks into the address."""

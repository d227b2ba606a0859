// Markdown as DOM nodes, never as HTML: text, headings, lists, quotes, code, tables, emphasis, http links. Images are not
// fetched. A citation is marked in the text by OPEN, its number in `cites`, CLOSE.
const OPEN = "\uE000", CLOSE = "\uE001", MARKS = /[\uE000\uE001]/g;
const INLINE = /(`+)(?!`)([\s\S]*?[^`])\1(?!`)|\*\*(?=\S)([\s\S]*?\S)\*\*|\*(?=[^\s*])([^*]*[^\s*])\*|\[([^\]\n]+)\]\((https?:\/\/[^\s)]+)\)|\uE000(\d+)\uE001/g;
const ITEM = /^(\s*)(?:[-*+]|(\d{1,4})[.)])\s+(.*)$/, FENCE = /^\s*(```|~~~)/, ROW = /^\s*\|.*\|\s*$/, RULE = /^\s*\|[\s:|-]+\|\s*$/;

function inline(parent, text, cite) {
  let shown = 0;
  for (const found of text.matchAll(INLINE)) {
    const [whole, , code, bold, italic, label, url, number] = found;
    parent.append(text.slice(shown, found.index));
    shown = found.index + whole.length;
    if (number !== undefined) parent.append(cite(Number(number)));
    else if (code !== undefined) parent.append(make("code", "", code.replace(/\uE000\d+\uE001/g, "")));
    else if (url !== undefined) {
      const link = make("a", "", label);
      Object.assign(link, { href: url, target: "_blank", rel: "noopener noreferrer", title: url });
      parent.append(link);
    } else inline(parent.appendChild(make(bold !== undefined ? "strong" : "em")), bold ?? italic, cite);
  }
  parent.append(text.slice(shown));
  return parent;
}

function table(rows, cite) {
  const node = make("table"), cells = (row) => row.trim().slice(1, -1).split("|").map((cell) => cell.trim());
  rows.filter((row) => !RULE.test(row)).forEach((row, i) => {
    const line = node.insertRow();
    for (const cell of cells(row)) line.append(inline(make(i ? "td" : "th"), cell, cite));
  });
  return node;
}

function markdown(text, cite) {
  const made = document.createDocumentFragment(), lines = text.split("\n");
  let list = null, i = 0;
  const take = (test) => { const from = i; while (i < lines.length && test(lines[i])) i++; return lines.slice(from, i); };
  while (i < lines.length) {
    const line = lines[i], item = line.match(ITEM), heading = line.match(/^(#{1,6})\s+(.*)$/), fence = line.match(FENCE);
    if (!item) list = null;
    if (fence) {
      i++;
      const code = take((l) => !l.trim().startsWith(fence[1])).join("\n").replace(/\uE000\d+\uE001/g, "");
      i++;
      made.append(make("pre")); made.lastChild.append(make("code", "", code));
    } else if (item) {
      const kind = item[2] ? "ol" : "ul";
      if (list?.localName !== kind) { list = make(kind); if (item[2]) list.start = item[2]; made.append(list); }
      const node = inline(make("li"), item[3], cite);
      node.style.marginLeft = Math.min(item[1].length, 12) * 8 + "px";
      list.append(node); i++;
    } else if (heading) { made.append(inline(make("h" + Math.min(6, heading[1].length + 3)), heading[2], cite)); i++; }
    else if (ROW.test(line)) made.append(table(take((l) => ROW.test(l)), cite));
    else if (line.startsWith(">")) made.append(inline(make("blockquote"), take((l) => l.startsWith(">")).map((l) => l.replace(/^>\s?/, "")).join("\n"), cite));
    else if (!line.trim()) i++;
    else made.append(inline(make("p"), take((l) => l.trim() && !ITEM.test(l) && !FENCE.test(l) && !ROW.test(l) && !/^(#{1,6}\s|>)/.test(l)).join("\n") || lines[i++], cite));
  }
  return made;
}

"use strict";
// A log of any length: only some pieces of it are in the page, the others are read when they come near.
ui.logWindow = 8;                 // pieces in the page at most
ui.logPiece = 128 * 1024;         // bytes of a piece that is read when scrolling

// Text of a log as nodes: colours kept, other escape sequences dropped, a progress bar as it was last drawn.
ui.logNodes = (text, marked) => {
  const out = [];
  let plain = "", style = [];
  const flush = () => { if (plain) { out.push(style.length ? ui.h("span", { class: style.join(" ") }, plain) : document.createTextNode(ui.clean(plain))); plain = ""; } };
  const put = (part) => {
    if (!marked) { plain += part; return; }
    const low = part.toLowerCase(), wanted = marked.toLowerCase();
    let from = 0;
    for (let at = low.indexOf(wanted); at >= 0; at = low.indexOf(wanted, from)) {
      plain += part.slice(from, at); flush();
      out.push(ui.h("mark", {}, part.slice(at, at + wanted.length)));
      from = at + wanted.length;
    }
    plain += part.slice(from);
  };
  if (text.includes("\r")) text = text.replace(/\r\n/g, "\n").replace(/[^\n]*\r(?=[^\n])/g, "").replace(/\r/g, "");
  if (!text.includes("\u001b")) { put(text); flush(); return out; }
  let from = 0;
  // eslint-disable-next-line no-control-regex
  for (const found of text.matchAll(/\u001b(?:\[([0-9;:?<=>]*)([@-~])|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[@-Z\\^_]|[ -/]+[0-~])/g)) {
    put(text.slice(from, found.index));
    from = found.index + found[0].length;
    if (found[2] !== "m") continue;
    flush();
    for (const code of (found[1] || "0").split(";").map(Number)) {
      if (code === 0) style = [];
      else if (code === 1) style.push("b");
      else if (code === 2) style.push("d");
      else if (code === 4) style.push("u");
      else if (code >= 30 && code <= 37) style = [...style.filter((c) => c[0] !== "c"), `c${code - 30}`];
      else if (code >= 90 && code <= 97) style = [...style.filter((c) => c[0] !== "c"), `c${code - 90 || 8}`];
      else if (code === 39) style = style.filter((c) => c[0] !== "c");
    }
  }
  put(text.slice(from)); flush();
  return out;
};

ui.LogView = class {
  constructor(id, name) {
    this.id = id; this.name = name; this.pieces = []; this.follows = true; this.busy = false; this.marked = "";
    this.pre = ui.h("pre", {});
    this.box = ui.h("div", { class: "log", tabindex: "0", role: "log", "aria-live": "off", "aria-label": `Log of ${name.job}` , on: { scroll: () => this.scrolled() } }, this.pre);
    this.said = ui.h("span", { class: "quiet small", role: "status" });
    this.search = ui.h("input", { type: "search", placeholder: "Find in the log", "aria-label": "Find in the log", on: { keydown: (e) => { if (e.key === "Enter") { e.preventDefault(); this.find(); } } } });
    this.hits = ui.h("div", {});
    const file = ui.exported ? null : ui.h("a", { class: "button", href: ui.of(id, "/log/file", name), download: true }, "Download");
    this.element = ui.h("div", {},
      ui.h("div", { class: "bar" }, ui.h("span", { class: "grow" }, this.search), ui.h("button", { type: "button", on: { click: () => this.find() } }, "Find"),
        ui.h("button", { type: "button", on: { click: () => this.jump(0) } }, "Start"), ui.h("button", { type: "button", on: { click: () => this.jump(-2 * ui.logPiece) } }, "End"), file, this.said),
      this.hits, this.box);
    this.jump(-2 * ui.logPiece);
  }
  async read(start, count) { return ui.get(ui.exported ? ui.of(this.id, "/log", this.name) : ui.of(this.id, "/log", { ...this.name, start, count })); }
  async jump(start) {
    ui.watchLog(null);
    try {
      const found = await this.read(start, Math.max(ui.logPiece, Math.abs(start)));
      this.pieces = []; this.pre.replaceChildren(); this.follows = start < 0; this.size = found.size;
      this.add(found, true);
      this.say(found);
      this.box.scrollTop = this.follows ? this.box.scrollHeight : 0;
      if (found.end >= found.size) this.follow(found.end);
    } catch (error) { ui.show(this.pre, ui.problem(error)); }
  }
  follow(end) { ui.watchLog({ ...this.name, start: end }, (piece) => this.grown(piece)); }
  say(found) { this.size = found.size; this.said.textContent = ui.clean(found.problem || (found.size ? ui.bytes(found.size) : "nothing was written yet")); }
  add(found, after) {
    if (!found.text) return null;
    const piece = { start: found.start, end: found.end, text: found.text, element: ui.h("span", {}) };
    this.draw(piece);
    if (after) { this.pieces.push(piece); this.pre.append(piece.element); } else { this.pieces.unshift(piece); this.pre.prepend(piece.element); }
    return piece;
  }
  draw(piece) { piece.element.replaceChildren(...ui.logNodes(piece.text, this.marked)); }
  grown(found) {
    this.say(found);
    if (found.start === 0 && this.pieces.length && this.pieces[0].start === 0 && found.end <= this.pieces[0].end) { this.jump(-2 * ui.logPiece); return; }
    const last = this.pieces[this.pieces.length - 1];
    if (last && last.text.length < ui.logPiece && last.end === found.start) {
      // The last line may go on, or a progress bar be drawn over: only what comes after the last line's begin is drawn again.
      const keep = last.text.lastIndexOf("\n", last.text.length - 1) + 1;
      const open = last.text.slice(keep) + found.text;
      if (!last.tail) { last.tail = ui.h("span", {}); last.element.replaceChildren(...ui.logNodes(last.text.slice(0, keep), this.marked), last.tail); }
      last.text = last.text.slice(0, keep) + open; last.end = found.end;
      const done = open.lastIndexOf("\n") + 1;
      last.tail.before(...ui.logNodes(open.slice(0, done), this.marked));
      last.tail.replaceChildren(...ui.logNodes(open.slice(done), this.marked));
    } else this.add(found, true);
    if (this.follows) {
      while (this.pieces.length > ui.logWindow) this.pieces.shift().element.remove();
      this.box.scrollTop = this.box.scrollHeight;
    }
  }
  async scrolled() {
    const box = this.box, below = box.scrollHeight - box.scrollTop - box.clientHeight;
    this.follows = below < 30;
    if (this.busy || ui.exported || !this.pieces.length) return;
    const first = this.pieces[0], last = this.pieces[this.pieces.length - 1];
    if (box.scrollTop < 800 && first.start > 0) await this.more(Math.max(0, first.start - ui.logPiece), Math.min(first.start, ui.logPiece), false);
    else if (below < 800 && last.end < this.size && !ui.followed()) await this.more(last.end, ui.logPiece, true);
  }
  async more(start, count, after) {
    this.busy = true;
    try {
      const found = await this.read(start, count), height = this.box.scrollHeight, top = this.box.scrollTop;
      this.add(found, after);
      if (after) {
        while (this.pieces.length > ui.logWindow) this.pieces.shift().element.remove();
        if (found.end >= found.size) this.follow(found.end);
      } else {
        this.box.scrollTop = top + this.box.scrollHeight - height;
        while (this.pieces.length > ui.logWindow) { this.pieces.pop().element.remove(); ui.watchLog(null); }
      }
      if (after) this.box.scrollTop = top - (height - this.box.scrollHeight > 0 ? height - this.box.scrollHeight : 0);
    } catch (error) { this.said.textContent = ui.clean(error.message); } finally { this.busy = false; }
  }
  async find() {
    this.marked = this.search.value;
    this.pieces.forEach((piece) => { piece.tail = null; this.draw(piece); });
    this.hits.replaceChildren();
    if (!this.marked || ui.exported) { const hit = this.pre.querySelector("mark"); if (hit) hit.scrollIntoView({ block: "center" }); return; }
    const found = await ui.get(ui.of(this.id, "/log/find", { ...this.name, text: this.marked }));
    ui.show(this.hits, ui.h("p", { class: "quiet small" }, `${found.length}${found.length === 500 ? " or more" : ""} lines`),
      ui.h("div", { class: "scroll", role: "region", "aria-label": "Lines found", tabindex: "0" }, found.slice(0, 50).map(([start, line]) => ui.h("div", {}, ui.h("button", { type: "button", class: "mono", on: { click: () => this.jump(start) } }, line.slice(0, 160))))));
  }
};

// SPDX-License-Identifier: Apache-2.0
// Copyright The Sluice authors
//
// Packets as a list of any length: only the rows that are seen exist. Three sources feed it: the file, what
// a search finds in it, and the live stream.
import * as api from "./api.js";
import { h, text, toggle } from "./dom.js";
import { count, precise } from "./format.js";
import * as stream from "./stream.js";

const ROW = 22;
const TALLEST = 8e6; // pixels; browsers end somewhere above
const PAGE = 200;
const PAGES_KEPT = 40;
const SETTLE_MS = 60;
const FOUND_AHEAD = 200;
const LIVE_KEPT = 4000;
const LIVE_RATE = 200; // packets a second; what is left out is counted
const LIVE_BYTES = 1024;
const DRAW_MS = 150;

const place = (ip, mac, port) => (ip ? (port === null ? ip : ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`) : (mac ?? ""));
const cellsOf = (packet) => [
  count(packet.number), precise(packet.time).slice(0, 15), place(packet.src_ip, packet.src_mac, packet.src_port),
  place(packet.dst_ip, packet.dst_mac, packet.dst_port), packet.protocol, String(packet.length), packet.info,
];
const NAMES = ["No.", "Time", "From", "To", "Protocol", "Length", "What"];

// "tcp -syn" as the daemon understands it in ?words=.
export const wordsOf = (line) => line.toLowerCase().split(/\s+/).filter(Boolean).map((word) => (word.startsWith("-") && word.length > 1 ? { absent: true, word: word.slice(1) } : { absent: false, word }));
const has = (words, packet) => {
  const line = `${packet.info} ${packet.protocol} ${packet.src_mac} ${packet.dst_mac} ${packet.tunnel ? `${packet.tunnel.type} ${packet.tunnel.protocol}` : ""}`.toLowerCase();
  return words.every(({ absent, word }) => line.includes(word) !== absent);
};

export class PacketTable {
  // chosen(packet) when a row is; drawn() after each time.
  constructor(chosen, drawn) {
    this.chosen = chosen;
    this.told = drawn;
    this.source = null;
    this.top = 0; // the first row that is seen, with a fraction
    this.follow = false;
    this.current = -1;
    this.rows = [];
    this.spacer = h("div", { class: "spacer" });
    this.window = h("div", { class: "window" });
    this.viewport = h("div", { class: "viewport", tabindex: "0", role: "grid", "aria-label": `Packets: ${NAMES.join(", ")}`, "aria-readonly": "true", "aria-colcount": NAMES.length },
      this.window, this.spacer);
    this.nothing = h("p", { class: "nothing" });
    this.element = h("div", { class: "packets" },
      h("div", { class: "prow phead", "aria-hidden": "true" }, NAMES.map((name) => h("span", {}, name))), this.viewport, this.nothing);
    this.viewport.addEventListener("scroll", () => this.scrolled());
    this.viewport.addEventListener("wheel", (event) => this.wheeled(event), { passive: false });
    this.viewport.addEventListener("keydown", (event) => this.typed(event));
    this.viewport.addEventListener("click", (event) => this.clicked(event));
    this.sized = new ResizeObserver(() => this.draw());
    this.sized.observe(this.viewport);
  }

  close() {
    this.sized.disconnect();
    this.source?.close();
    cancelAnimationFrame(this.frame);
    clearTimeout(this.timer);
  }

  show(source, follow) {
    this.source?.close();
    this.source = source;
    this.follow = follow;
    this.current = -1;
    this.top = 0;
    source.changed = () => this.later();
    this.draw();
  }

  get seen() {
    return Math.max(1, this.viewport.clientHeight / ROW);
  }

  get last() {
    return Math.max(0, this.source.total - this.seen);
  }

  // However fast news come, they are drawn some times a second.
  later() {
    if (this.frame) return;
    const wait = DRAW_MS - (performance.now() - (this.drawnAt ?? 0));
    this.frame = -1;
    this.timer = setTimeout(() => {
      this.frame = requestAnimationFrame(() => {
        this.frame = 0;
        this.draw();
      });
    }, Math.max(0, wait));
  }

  moveTo(top, byUser = false) {
    this.top = Math.max(0, Math.min(this.last, top));
    if (byUser) this.follow = this.source.live && this.top >= this.last - 0.5;
    this.draw();
  }

  // The bar's place and the rows' are in proportion where the list is taller than a browser allows.
  place() {
    const tall = Math.min(this.source.total * ROW, TALLEST);
    const height = `${Math.max(0, tall - this.viewport.clientHeight)}px`;
    if (this.spacer.style.height !== height) this.spacer.style.height = height;
    const room = Math.max(1, tall - this.viewport.clientHeight);
    const wanted = this.last === 0 ? 0 : Math.round((this.top / this.last) * room);
    if (Math.abs(this.viewport.scrollTop - wanted) > 1) {
      this.own = wanted;
      this.viewport.scrollTop = wanted;
    }
  }

  scrolled() {
    if (this.source === null) return;
    const at = this.viewport.scrollTop;
    if (this.own !== undefined && Math.abs(at - this.own) <= 1) {
      this.own = undefined;
      return;
    }
    const room = Math.max(1, Math.min(this.source.total * ROW, TALLEST) - this.viewport.clientHeight);
    this.top = (at / room) * this.last;
    this.follow = this.source.live && this.top >= this.last - 0.5;
    this.draw(true);
  }

  wheeled(event) {
    if (this.source === null || this.source.total * ROW <= TALLEST || event.ctrlKey) return;
    event.preventDefault();
    this.moveTo(this.top + event.deltaY / ROW, true);
  }

  typed(event) {
    const page = Math.max(1, Math.floor(this.seen) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key === "Enter" && this.current >= 0) this.choose(this.current);
    if (!(event.key in steps) || this.source === null || this.source.total === 0) return;
    event.preventDefault();
    const from = this.current < 0 ? Math.floor(this.top) - 1 : this.current;
    this.current = Math.max(0, Math.min(this.source.total - 1, from + steps[event.key]));
    if (this.current < this.top) this.moveTo(this.current, true);
    else if (this.current > this.top + this.seen - 1) this.moveTo(this.current - this.seen + 1, true);
    else this.draw();
    this.follow = false;
  }

  clicked(event) {
    const index = Number(event.target.closest(".prow")?.dataset.index ?? -1);
    if (index >= 0) this.choose(index);
  }

  choose(index) {
    // A page of the file that is on its way need not be waited for: the number will do.
    const packet = this.source.row(index) ?? { number: index + 1 };
    if (packet.gap) return;
    this.current = index;
    this.follow = false;
    this.draw();
    this.chosen(packet);
  }

  // byBar: the bar is where the user put it, and stays there.
  draw(byBar = false) {
    if (this.source === null || this.viewport.clientHeight === 0) return;
    this.drawnAt = performance.now();
    const gone = this.source.takeGone?.() ?? 0; // rows that left at the front
    if (gone > 0) {
      this.top = Math.max(0, this.top - gone);
      this.current = this.current >= gone ? this.current - gone : -1;
    }
    this.top = this.follow ? this.last : Math.min(this.top, this.last);
    if (!byBar) this.place();
    const first = Math.floor(this.top);
    const n = Math.min(this.source.total - first, Math.ceil(this.seen) + 1);
    this.source.need(first, first + n);
    while (this.rows.length < n) this.rows.push(this.rowMake());
    this.window.style.transform = `translateY(${-(this.top - first) * ROW}px)`;
    this.rows.forEach((row, i) => this.rowShow(row, i < n ? first + i : -1));
    this.viewport.setAttribute("aria-rowcount", this.source.total);
    text(this.nothing, this.source.total > 0 ? "" : (this.source.nothing ?? ""));
    this.told();
  }

  rowMake() {
    const cells = NAMES.map(() => h("span", { role: "gridcell" }));
    const element = h("div", { class: "prow", role: "row" }, cells);
    element.id = `packet-row-${this.rows.length}`;
    this.window.append(element);
    return { element, cells };
  }

  rowShow({ element, cells }, index) {
    element.hidden = index < 0;
    if (index < 0) return;
    const packet = this.source.row(index);
    element.dataset.index = index;
    element.setAttribute("aria-rowindex", index + 1);
    toggle(element, "chosen", index === this.current);
    toggle(element, "gap", Boolean(packet?.gap));
    toggle(element, "even", index % 2 === 0);
    if (index === this.current) this.viewport.setAttribute("aria-activedescendant", element.id);
    const values = packet?.gap ? ["", "", "", "", "", "", packet.gap] : packet ? cellsOf(packet) : [count(index + 1), "…", "", "", "", "", ""];
    values.forEach((value, i) => text(cells[i], value));
  }
}

// The packets of a file, by pages that come as they are looked at.
export class FileSource {
  constructor(id, total) {
    this.id = id;
    this.total = total;
    this.pages = new Map(); // number -> {packets, asked}
    this.changed = () => {};
    this.error = "";
    this.cancel = new AbortController();
  }

  close() {
    this.cancel.abort();
    clearTimeout(this.timer);
  }

  get nothing() {
    return "There is no packet in it.";
  }

  grow(total) {
    if (total === this.total) return;
    this.total = total;
    this.changed();
  }

  row(index) {
    return this.pages.get(Math.floor(index / PAGE))?.packets[index % PAGE];
  }

  lacking(number) {
    const page = this.pages.get(number);
    if (page === undefined) return true;
    const full = Math.min(PAGE, this.total - number * PAGE);
    return !page.asked && page.packets.length < full && performance.now() - page.at > 1000;
  }

  // Asked for once the user rests for a moment; what was passed by is not.
  need(first, end) {
    this.wanted = [Math.floor(first / PAGE), Math.floor(Math.max(first, end - 1) / PAGE)];
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      for (let number = this.wanted[0]; number <= this.wanted[1]; number++) if (this.lacking(number) && number * PAGE < this.total) this.fetch(number);
    }, SETTLE_MS);
  }

  async fetch(number) {
    const page = { packets: this.pages.get(number)?.packets ?? [], asked: true, at: performance.now() };
    this.pages.delete(number);
    this.pages.set(number, page);
    if (this.pages.size > PAGES_KEPT) this.pages.delete(this.pages.keys().next().value);
    try {
      const answer = await api.get(`captures/${this.id}/packets?offset=${number * PAGE}&limit=${PAGE}`, { signal: this.cancel.signal });
      page.packets = answer.packets;
      this.error = "";
    } catch (error) {
      if (error.name === "AbortError") return;
      this.error = error.message;
      page.at = performance.now();
    }
    page.asked = false;
    this.changed();
  }
}

// What a search finds, as far as it has come.
export class FoundSource {
  constructor(id, words) {
    this.id = id;
    this.words = words;
    this.found = [];
    this.next = 0;
    this.of = null; // packets in the capture
    this.changed = () => {};
    this.error = "";
    this.cancel = new AbortController();
    this.wantedTo = FOUND_AHEAD;
    this.go();
  }

  get total() {
    return this.found.length;
  }

  close() {
    this.cancel.abort();
  }

  get nothing() {
    return this.next !== null && !this.error ? "Looking for them …" : "No packet is like that.";
  }

  row(index) {
    return this.found[index];
  }

  need(first, end) {
    this.wantedTo = Math.max(this.wantedTo, end + FOUND_AHEAD);
    this.go();
  }

  async go() {
    if (this.busy || this.error) return;
    this.busy = true;
    while (this.next !== null && this.found.length < this.wantedTo && !this.error) {
      try {
        const answer = await api.get(`captures/${this.id}/packets?offset=${this.next}&limit=${PAGE}&words=${encodeURIComponent(this.words)}`, { signal: this.cancel.signal });
        this.found.push(...answer.packets);
        this.next = answer.next;
        this.of = answer.total;
      } catch (error) {
        if (error.name === "AbortError") return;
        this.error = error.sentence ?? error.message;
      }
      this.changed();
    }
    this.busy = false;
    this.changed();
  }
}

// What a running capture keeps, as it comes: a sample, and how many were left out between.
export class LiveSource {
  constructor(id, told) {
    this.told = told; // rates, end and errors
    this.live = true;
    this.all = [];
    this.words = [];
    this.list = this.all;
    this.gone = 0;
    this.shownCount = 0;
    this.skipped = 0;
    this.lastTime = "";
    this.floor = "";
    this.lastNumber = 0;
    this.before = 0; // added to numbers: the daemon begins with 1 when nobody has watched for a while
    this.changed = () => {};
    this.end = stream.subscribe({ subscribe: "capture", id, format: "raw", rate: LIVE_RATE, bytes: LIVE_BYTES }, (message) => this.hear(message));
    this.unwatch = stream.onState((state) => state === "lost" && this.lost());
  }

  // The table's close: the stream goes on, for the list is looked at again.
  close() {}

  stop() {
    this.end();
    this.unwatch();
  }

  get total() {
    return this.list.length;
  }

  row(index) {
    return this.list[index];
  }

  get nothing() {
    return this.words.length > 0 ? "None of the last packets is like that." : "No packet has come yet that this capture keeps; they are here as soon as they do.";
  }

  need() {}

  takeGone() {
    const { gone } = this;
    this.gone = 0;
    return gone;
  }

  // After a loss only what is newer than what was seen is news.
  lost() {
    this.floor = this.lastTime;
    if (this.all.length > 0) this.add({ gap: "connection lost: packets from here on were not shown until it was back" });
    this.changed();
  }

  find(words) {
    this.words = words;
    this.list = words.length === 0 ? this.all : this.all.filter((packet) => !packet.gap && has(words, packet));
    this.gone = 0;
    this.changed();
  }

  add(packet) {
    this.all.push(packet);
    if (this.list !== this.all && !packet.gap && has(this.words, packet)) this.list.push(packet);
  }

  leftOut(n) {
    if (n === 0) return;
    this.skipped += n;
    const last = this.all.at(-1);
    if (last?.skipped) {
      last.skipped += n;
      last.gap = `${count(last.skipped)} packets not shown`;
    } else {
      this.add({ skipped: n, gap: `${count(n)} packets not shown` });
    }
  }

  hear(message) {
    if (message.event !== "packets") {
      this.told(message);
      return;
    }
    this.leftOut(message.skipped);
    for (const packet of message.packets) {
      if (packet.time <= this.floor) continue;
      if (packet.number + this.before <= this.lastNumber) this.before = this.lastNumber;
      packet.number += this.before;
      this.lastNumber = packet.number;
      if (packet.time > this.lastTime) this.lastTime = packet.time;
      this.shownCount++;
      this.add(packet);
    }
    for (const list of new Set([this.all, this.list])) {
      if (list.length <= LIVE_KEPT) continue;
      const n = list.length - LIVE_KEPT;
      list.splice(0, n);
      if (list === this.list) this.gone += n;
    }
    this.changed();
  }
}
